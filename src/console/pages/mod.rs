//! The pages: each reads what it shows, puts it into words, and leaves the rest to its template.

mod agent;
mod agents;
mod deliveries;
mod delivery;
mod home;
mod needs;
mod story;

pub(super) use deliveries::Row;

use askama::Template;
use http::StatusCode;

use super::answer::Answer;
use super::failure::Trouble;
use super::form::Form;
use super::people::Visit;
use super::query::Parameters;
use super::rates::Rates;
use super::route::Route;

/// The page that `route` names. There is a form if one was sent to it.
pub(super) async fn of(
    route: Route,
    query: &str,
    form: Option<Form>,
    visit: &Visit<'_>,
    rates: &Rates,
) -> Result<Answer, Trouble> {
    match (route, form) {
        (Route::Home, _) => {
            Parameters::of(query)?.end()?;
            home::page(visit, rates).await
        }
        (Route::Deliveries, _) => deliveries::page(query, visit).await,
        (Route::Delivery(id), _) => {
            Parameters::of(query)?.end()?;
            delivery::page(id, visit).await
        }
        (Route::Agents, _) => agents::page(query, visit).await,
        (Route::Agent(agent), _) => agent::page(&agent, Parameters::of(query)?, visit).await,
        _ => Err(Trouble::NoPage),
    }
}

fn written(page: &impl Template) -> Result<Answer, Trouble> {
    Ok(Answer::page(StatusCode::OK, page.render()?))
}
