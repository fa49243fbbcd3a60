//! The pages: each reads what it shows, puts it into words, and leaves the rest to its template.

mod agent;
mod agents;
mod deliveries;
mod delivery;
mod home;
mod needs;
mod story;

use askama::Template;
use http::StatusCode;

use super::answer::Answer;
use super::failure::Trouble;
use super::form::Form;
use super::query::Parameters;
use super::route::Route;
use crate::store::Store;

/// The page that `route` names. There is a form if one was sent to it.
pub(super) async fn of(route: Route, query: &str, _form: Option<Form>, store: &Store) -> Result<Answer, Trouble> {
    match route {
        Route::Home => {
            Parameters::of(query)?.end()?;
            home::page(store).await
        }
        Route::Deliveries => deliveries::page(query, store).await,
        Route::Delivery(id) => {
            Parameters::of(query)?.end()?;
            delivery::page(id, store).await
        }
        Route::Agents => agents::page(query, store).await,
        Route::Agent(agent) => agent::page(&agent, Parameters::of(query)?, store).await,
        Route::Health | Route::Style | Route::Icon => Err(Trouble::NoPage),
    }
}

fn written(page: &impl Template) -> Result<Answer, Trouble> {
    Ok(Answer::page(StatusCode::OK, page.render()?))
}
