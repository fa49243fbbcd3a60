//! The parameters of an address, as criteria. An unknown one is an error: a criterion that is misspelt and passed over
//! would make a page show something else than it seems to.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::failure::Trouble;
use super::frame;
use crate::domain::delivery::State;
use crate::domain::error_kind::ErrorKind;
use crate::domain::moment::{EXPECTED, Moment, NOTHING_BETWEEN};
use crate::store::history::HistoryFilter;

/// The most parameters that are read. The search form has fewer.
const MOST_PARAMETERS: usize = 32;

/// A point in time that may be given, and the text as it was written.
pub(super) type Written = (Option<Moment>, Option<String>);

/// Names and values that were not taken yet. Empty values count as absent: a form sends its empty fields, too.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The parameters of a query.
    pub(super) fn of(query: &str) -> Result<Parameters, Trouble> {
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().take(MOST_PARAMETERS + 1).collect();
        if pairs.len() > MOST_PARAMETERS {
            return Err(Trouble::Wrong(format!("The address has more than {MOST_PARAMETERS} parameters.")));
        }
        if pairs.iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
            return Err(Trouble::Wrong(
                "A parameter has a NUL character, which nothing in the database has.".to_owned(),
            ));
        }
        Ok(Parameters(pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect()))
    }

    /// Takes all values of a parameter.
    pub(super) fn all(&mut self, name: &str) -> Vec<String> {
        self.0.extract_if(.., |(of, _)| of == name).map(|(_, value)| value).collect()
    }

    /// Takes the value of a parameter that may be given once.
    pub(super) fn one(&mut self, name: &str) -> Result<Option<String>, Trouble> {
        let mut values = self.all(name);
        if values.len() > 1 {
            return Err(Trouble::Wrong(format!("The parameter {name} is given more than once.")));
        }
        Ok(values.pop())
    }

    /// Takes the value of a parameter that may be given once, as `T`. `expected` says what it should be.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Trouble> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        parse(text.trim()).map(Some).ok_or_else(|| Trouble::Wrong(format!("{name}: expected {expected}.")))
    }

    /// Takes a point in time that may be given once, and the text as it was written.
    pub(super) fn moment(&mut self, name: &str) -> Result<Written, Trouble> {
        let Some(text) = self.one(name)? else { return Ok((None, None)) };
        match Moment::named(text.trim()) {
            Some(moment) => Ok((Some(moment), Some(text))),
            None => Err(Trouble::Wrong(format!("{name}: expected {EXPECTED}."))),
        }
    }

    /// Takes the times `since` and `until`, between which something can be, and the texts as they were written.
    pub(super) fn span(&mut self) -> Result<[Written; 2], Trouble> {
        let (since, until) = (self.moment("since")?, self.moment("until")?);
        if Moment::is_nothing_between(since.0, until.0) {
            return Err(Trouble::Wrong(format!("since, until: {NOTHING_BETWEEN}.")));
        }
        Ok([since, until])
    }

    /// Takes a box of a form: there if it is checked.
    pub(super) fn checked(&mut self, name: &str) -> Result<bool, Trouble> {
        let one = self.parsed(name, "1, or that it is left out", |text| (text == "1").then_some(()))?;
        Ok(one.is_some())
    }

    /// Nothing must be left.
    pub(super) fn end(self) -> Result<(), Trouble> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Trouble::Wrong(format!(
                "There is no parameter {}.",
                super::words::shown(&name.chars().take(40).collect::<String>())
            ))),
        }
    }
}

/// From where on a page of deliveries is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// From the newest on.
    Newest,
    /// Those older than this one.
    After(Uuid),
    /// Those next to this one that are newer.
    Before(Uuid),
}

/// What a person searches for among deliveries.
#[derive(Debug)]
pub(super) struct Search {
    /// A call SID, a call id or a delivery id.
    pub(super) q: Option<String>,
    pub(super) states: Vec<State>,
    pub(super) agent: Option<String>,
    pub(super) action: Option<String>,
    pub(super) error_kind: Option<ErrorKind>,
    pub(super) response_code: Option<i16>,
    /// Only what is neither delivered nor healed.
    pub(super) open: bool,
    /// The search may take a second. The link to what there was no time for has it, and no other.
    pub(super) longer: bool,
    since: Option<Moment>,
    until: Option<Moment>,
    /// As it was written.
    pub(super) since_text: Option<String>,
    /// As it was written.
    pub(super) until_text: Option<String>,
    pub(super) place: Place,
}

impl Search {
    /// Reads the parameters of the page of deliveries.
    pub(super) fn of(query: &str) -> Result<Search, Trouble> {
        let mut all = Parameters::of(query)?;
        let wrong_state = || {
            let states: Vec<&str> = State::ALL.into_iter().map(State::as_str).collect();
            Trouble::Wrong(format!("state: expected one of {}.", states.join(", ")))
        };
        let states =
            all.all("state").iter().map(|name| State::named(name).ok_or_else(wrong_state)).collect::<Result<_, _>>()?;
        let kinds: Vec<&str> = ErrorKind::ALL.into_iter().map(ErrorKind::as_str).collect();
        let id = "the id of a delivery";
        let (after, before) =
            (all.parsed("after", id, |text| text.parse().ok())?, all.parsed("before", id, |text| text.parse().ok())?);
        let place = match (after, before) {
            (None, None) => Place::Newest,
            (Some(id), None) => Place::After(id),
            (None, Some(id)) => Place::Before(id),
            (Some(_), Some(_)) => return Err(Trouble::Wrong("after and before: expected one of them.".to_owned())),
        };
        let [(since, since_text), (until, until_text)] = all.span()?;
        let search = Search {
            q: all.one("q")?.map(|q| q.trim().to_owned()).filter(|q| !q.is_empty()),
            states,
            agent: all.one("agent")?,
            action: all.one("action")?,
            error_kind: all.parsed("error_kind", &format!("one of {}", kinds.join(", ")), ErrorKind::named)?,
            response_code: all.parsed("response_code", "an HTTP status code, such as 404", |text| {
                text.parse().ok().filter(|code| (100..=999).contains(code))
            })?,
            open: all.checked("open")?,
            longer: all.checked("longer")?,
            since,
            until,
            since_text,
            until_text,
            place,
        };
        all.end()?;
        Ok(search)
    }

    /// The criteria, at this time by the database's clock. `q` is not one of them.
    pub(super) fn filter(&self, now: DateTime<Utc>) -> HistoryFilter {
        HistoryFilter {
            agent: self.agent.clone(),
            action: self.action.clone(),
            states: Some(self.states.clone()).filter(|states| !states.is_empty()),
            error_kind: self.error_kind,
            response_code: self.response_code,
            since: self.since.map(|since| since.at(now)),
            until: self.until.map(|until| until.at(now)),
            open: self.open,
            ..HistoryFilter::default()
        }
    }

    /// Whether anything is searched for.
    pub(super) fn is_any(&self) -> bool {
        self.q.is_some() || self.is_narrowed()
    }

    /// Whether one of the criteria is given that the form shows only when it is unfolded.
    pub(super) fn is_narrowed(&self) -> bool {
        !self.states.is_empty()
            || self.agent.is_some()
            || self.action.is_some()
            || self.error_kind.is_some()
            || self.response_code.is_some()
            || self.since.is_some()
            || self.until.is_some()
            || self.open
    }

    /// The address of the page of deliveries with the same criteria and these parameters in addition. One of the same
    /// name takes the place of a criterion.
    pub(super) fn address_with(&self, more: &[(&str, &str)]) -> String {
        frame::inside(&format!("/deliveries?{}", self.query_with(more)))
    }

    /// The same as a query.
    pub(super) fn query_with(&self, more: &[(&str, &str)]) -> String {
        let code = self.response_code.map(|code| code.to_string());
        let own = [
            ("q", self.q.as_deref()),
            ("agent", self.agent.as_deref()),
            ("action", self.action.as_deref()),
            ("error_kind", self.error_kind.map(ErrorKind::as_str)),
            ("response_code", code.as_deref()),
            ("since", self.since_text.as_deref()),
            ("until", self.until_text.as_deref()),
            ("open", self.open.then_some("1")),
        ];
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in own {
            if let Some(value) = value.filter(|_| !more.iter().any(|(other, _)| *other == name)) {
                query.append_pair(name, value);
            }
        }
        query.extend_pairs(self.states.iter().map(|state| ("state", state.as_str()))).extend_pairs(more);
        query.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(query: &str) -> String {
        match Search::of(query) {
            Err(Trouble::Wrong(why)) => why,
            other => panic!("{query}: {other:?}"),
        }
    }

    #[test]
    fn criteria_lead_back_to_the_same_criteria_whatever_is_in_them() {
        let query = "agent=a%26b%3D%22%3Cc&state=failed&state=unknown&error_kind=dns&since=24h&q=CA%2B1";
        let search = Search::of(query).unwrap();
        let address = search.address_with(&[("after", "0192f0c1-0000-7000-8000-000000000001")]);
        let again = Search::of(address.split_once('?').unwrap().1).unwrap();
        assert_eq!((again.agent.as_deref(), again.q.as_deref()), (Some("a&b=\"<c"), Some("CA+1")));
        assert_eq!((&again.states, again.since), (&search.states, search.since));
        assert!(matches!(again.place, Place::After(_)));
        assert!(search.address_with(&[("since", "x")]).ends_with("since=x"));
        assert!(!search.address_with(&[("since", "x")]).contains("24h"));
    }

    #[test]
    fn what_is_empty_is_absent_and_what_cannot_be_meant_is_said_with_what_is_expected() {
        let search = Search::of("q=&state=&agent=&since=+").map(|search| search.is_any());
        assert!(search.is_err(), "a blank is no time");
        assert!(!Search::of("q=&state=&agent=&since=").unwrap().is_any());
        for (query, said) in [
            ("state=lost", "state: expected one of waiting, sending"),
            ("error_kind=x", "error_kind: expected one of"),
            ("response_code=99", "response_code: expected an HTTP status code"),
            ("since=yesterday", "since: expected a day"),
            ("since=-1h", "since: expected a day"),
            ("since=1h&until=2h", "since, until: the time since which is not before"),
            ("since=2026-11-24&until=2026-11-24", "since, until: the time since which is not before"),
            ("after=1", "after: expected the id of a delivery"),
            ("agnet=a", "There is no parameter agnet."),
            ("agent=a&agent=b", "The parameter agent is given more than once."),
            ("agent=%00", "A parameter has a NUL character"),
        ] {
            assert!(refused(query).starts_with(said), "{query}: {}", refused(query));
        }
        assert!(refused(&"state=failed&".repeat(33)).contains("more than 32"));
    }
}
