//! The pages: each reads what it shows, puts it into words, and leaves the rest to its template.

mod action_tests;
mod agent;
mod agents;
mod audit;
mod calls;
mod change;
mod deliveries;
mod deliveries_of_all;
mod delivery;
mod home;
mod home_of_all;
mod pause_form;
mod search_form;
mod story;

pub(super) use deliveries::Row;

use askama::Template;
use http::StatusCode;

use super::answer::Answer;
use super::export::Exported;
use super::failure::Trouble;
use super::form::Form;
use super::glance::Glances;
use super::people::Visit;
use super::query::Parameters;
use super::route::Route;
use super::testing::Testing;
use super::together::All;
use crate::service::export::Form as ExportForm;

/// The page that `route` names. There is a form if one was sent to it.
pub(super) async fn of(
    route: Route,
    query: &str,
    form: Option<Form>,
    visit: &Visit<'_>,
    glances: &Glances,
    testing: &Testing,
) -> Result<Answer, Trouble> {
    match (route, form) {
        (Route::Home, _) => {
            Parameters::of(query)?.end()?;
            home::page(visit, glances.of(visit.visitor.role)).await
        }
        (Route::Deliveries, _) => deliveries::page(query, visit).await,
        (Route::Delivery(id), _) => {
            Parameters::of(query)?.end()?;
            delivery::page(id, visit).await
        }
        (Route::Calls, _) => calls::page(query, visit).await,
        (Route::Audit, _) => audit::page(query, visit).await,
        (Route::Agents, _) => agents::page(query, visit).await,
        (Route::Agent(agent), _) => agent::page(&agent, Parameters::of(query)?, visit).await,
        (Route::Versions, _) => change::versions(query, visit).await,
        (Route::Tests, _) => action_tests::list(query, visit).await,
        (Route::Test(id), _) => {
            Parameters::of(query)?.end()?;
            action_tests::page(id, visit).await
        }
        (Route::TestAction, None) => change::test_form(query, visit, testing).await,
        (Route::TestAction, Some(form)) => change::test_sent(&form, visit, testing).await,
        (Route::EditAction, None) => change::edit_form(query, visit).await,
        (Route::EditAction, Some(form)) => change::edit_sent(&form, visit).await,
        (Route::CheckAction, Some(form)) => change::check(&form, visit).await,
        (Route::Switch, Some(form)) => change::switch(&form, visit).await,
        (Route::Pause, Some(form)) => change::pause(&form, visit).await,
        (Route::Replay, Some(form)) => change::replay(&form, visit).await,
        (Route::ReplayMany, None) => change::replay_many_asked(query, visit).await,
        (Route::ReplayMany, Some(form)) => change::replay_many_sent(&form, visit).await,
        (Route::ResolveMany, None) => change::resolve_many_asked(query, visit).await,
        (Route::ResolveMany, Some(form)) => change::resolve_many_sent(&form, visit).await,
        (Route::Resolve, Some(form)) => change::resolve(&form, visit).await,
        _ => Err(Trouble::NoPage),
    }
}

/// The page that `route` names, of all of several databases.
pub(super) async fn of_all(route: &Route, query: &str, all: &All<'_>) -> Result<Answer, Trouble> {
    match route {
        Route::Home => {
            Parameters::of(query)?.end()?;
            home_of_all::page(all).await
        }
        Route::Deliveries => deliveries_of_all::page(query, all).await,
        _ => Err(Trouble::NoPage),
    }
}

/// The whole result that `route` names, and the form in which it is asked for; `None` if it names a page.
pub(super) async fn exported(
    route: &Route,
    query: &str,
    visit: &Visit<'_>,
) -> Result<Option<(Exported, ExportForm)>, Trouble> {
    let (exported, form) = match route {
        Route::DeliveriesExport(form) => (deliveries::whole(query, visit).await?, *form),
        Route::AuditExport(form) => (audit::whole(query, visit).await?, *form),
        _ => return Ok(None),
    };
    Ok(Some((exported, form)))
}

/// The whole result of a search for deliveries in all of several databases.
pub(super) async fn exported_of_all(query: &str, all: &All<'_>) -> Result<Exported, Trouble> {
    deliveries_of_all::whole(query, all).await
}

fn written(page: &impl Template) -> Result<Answer, Trouble> {
    Ok(Answer::page(StatusCode::OK, page.render()?))
}
