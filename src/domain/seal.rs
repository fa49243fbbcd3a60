//! What of history is sealed: the kinds of rows that are leaves of the tree.

use uuid::Uuid;

use super::closed_set::closed_set;

closed_set! {
    /// A kind of row that is sealed.
    pub enum Kind {
        /// A delivery that has ended.
        Delivery = "delivery",
        /// The late result of a claim.
        LateResult = "late_result",
        /// What a person found out about an unknown delivery.
        Finding = "finding",
        /// A replay.
        Replay = "replay",
        /// A published version of an action.
        Version = "version",
        /// An action that was enabled or disabled.
        Switch = "switch",
        /// A pause.
        Pause = "pause",
        /// The end of a pause.
        PauseEnd = "pause_end",
        /// History that was removed because it was old.
        Pruning = "pruning",
    }
}

impl Kind {
    /// Its number in leaves, and in the order of rows that one transaction wrote.
    pub fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The kind with this number, if there is one.
    pub fn numbered(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Whether rows of this kind leave with old history.
    pub fn may_leave(self) -> bool {
        matches!(self, Kind::Delivery | Kind::LateResult | Kind::Finding | Kind::Replay)
    }
}

/// The place of a row in the order in which history is sealed: by the transaction that wrote it, its kind, and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The transaction.
    pub xact: i64,
    /// The number of the kind.
    pub kind: i16,
    /// The id; of a row whose id is a number, that number.
    pub id: Uuid,
}

impl Place {
    /// Before all rows, also those with a number that no transaction has: whoever may write what he likes may write that.
    pub const FIRST: Place = Place { xact: i64::MIN, kind: i16::MAX, id: Uuid::max() };

    /// Behind all rows of the transactions before this one.
    pub fn before(xact: i64) -> Place {
        Place { xact: xact.saturating_sub(1), kind: i16::MAX, id: Uuid::max() }
    }

    /// Behind all rows.
    pub const LAST: Place = Place { xact: i64::MAX, kind: i16::MAX, id: Uuid::max() };

    /// The place right before this one, if rows of the same kind and transaction are compared.
    pub fn just_before(self) -> Place {
        Place { id: Uuid::from_u128(self.id.as_u128().saturating_sub(1)), ..self }
    }
}

/// A row by its kind and its id, in words: `delivery 0199…`, `version 2 of action 7`.
pub fn named(kind: Kind, id: Uuid) -> String {
    let number = id.as_u128();
    match kind {
        Kind::Delivery | Kind::LateResult | Kind::Finding | Kind::Replay => format!("{kind} {id}"),
        Kind::Version => format!("version {} of action {}", number as u64, (number >> 64) as u64),
        Kind::Switch | Kind::Pause | Kind::PauseEnd | Kind::Pruning => format!("{kind} {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_keeps_the_number_with_which_its_rows_were_sealed_and_only_records_of_deliveries_leave() {
        let kinds = [
            (1, Kind::Delivery, true),
            (2, Kind::LateResult, true),
            (3, Kind::Finding, true),
            (4, Kind::Replay, true),
            (5, Kind::Version, false),
            (6, Kind::Switch, false),
            (7, Kind::Pause, false),
            (8, Kind::PauseEnd, false),
            (9, Kind::Pruning, false),
        ];
        assert_eq!(kinds.map(|(_, kind, _)| kind), Kind::ALL);
        for (number, kind, leaves) in kinds {
            assert_eq!((kind.number(), kind.may_leave()), (number, leaves), "{kind}");
            assert_eq!(Kind::numbered(number), Some(kind));
        }
        assert_eq!([Kind::numbered(0), Kind::numbered(10)], [None; 2]);
    }

    #[test]
    fn between_a_place_and_the_one_just_before_it_is_no_row_of_its_kind_and_transaction() {
        let at = |id| Place { xact: 7, kind: 1, id: Uuid::from_u128(id) };
        assert_eq!(at(5).just_before(), at(4));
        assert!(at(u128::MAX).just_before() < at(u128::MAX));
        assert!(Place::FIRST < Place::before(7) && Place::before(7) < at(0) && at(u128::MAX) < Place::before(8));
        assert!(Place::before(i64::MAX) < Place::LAST);
    }

    #[test]
    fn a_row_is_named_by_its_kind_and_its_id_and_a_version_by_its_action() {
        let id = Uuid::from_u128(7 << 64 | 2);
        for kind in Kind::ALL {
            let told = match kind {
                Kind::Version => "version 2 of action 7".to_owned(),
                Kind::Delivery | Kind::LateResult | Kind::Finding | Kind::Replay => {
                    format!("{kind} 00000000-0000-0007-0000-000000000002")
                }
                Kind::Switch | Kind::Pause | Kind::PauseEnd | Kind::Pruning => {
                    assert_eq!(named(kind, Uuid::from_u128(12)), format!("{kind} 12"));
                    continue;
                }
            };
            assert_eq!(named(kind, id), told);
        }
    }
}
