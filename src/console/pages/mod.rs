//! The pages: each reads what it shows, puts it into words, and leaves the rest to its template.

mod agent;
mod agents;
mod audit;
mod calls;
mod deliveries;
mod delivery;
mod home;
mod needs;
mod story;

use askama::Template;
use http::StatusCode;

use super::answer::Answer;
use super::export::Exported;
use super::failure::Trouble;
use super::form::Form;
use super::query::Parameters;
use super::route::Route;
use crate::service::export::Form as ExportForm;
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
        Route::Calls => calls::page(query, store).await,
        Route::Audit => audit::page(query, store).await,
        Route::Agents => agents::page(query, store).await,
        Route::Agent(agent) => agent::page(&agent, Parameters::of(query)?, store).await,
        Route::DeliveriesExport(_) | Route::AuditExport(_) | Route::Health | Route::Style | Route::Icon => {
            Err(Trouble::NoPage)
        }
    }
}

/// The whole result that `route` names, and the form in which it is asked for; `None` if it names a page.
pub(super) async fn exported(
    route: &Route,
    query: &str,
    store: &Store,
) -> Result<Option<(Exported, ExportForm)>, Trouble> {
    Ok(match route {
        Route::DeliveriesExport(form) => Some((deliveries::whole(query, store).await?, *form)),
        Route::AuditExport(form) => Some((audit::whole(query, store).await?, *form)),
        _ => None,
    })
}

fn written(page: &impl Template) -> Result<Answer, Trouble> {
    Ok(Answer::page(StatusCode::OK, page.render()?))
}
