//! `postcall resolve`: records a person's finding about a delivery whose outcome could not be known.

use clap::Args;
use uuid::Uuid;

use super::attribution::Attribution;
use super::{CliError, Database, ONE_CONNECTION, print_line};
use crate::domain::delivery::Finding;
use crate::service::told;
use crate::store::resolve::Resolution;

/// Record what a person found out about an `unknown` delivery.
///
/// Ask the receiver first: it knows the delivery by the header `webhook-id`, which `postcall show` prints. The finding
/// is stored beside history, with name and reason, and cannot be taken back. If the request's own result still arrives,
/// that result counts instead. A delivery that was replayed can no longer be resolved: its replay shows what happened
/// to the message. Needs the role postcall_publisher.
#[derive(Args)]
pub struct Arguments {
    /// The delivery's id, as `postcall history` lists it.
    #[arg(value_name = "DELIVERY_ID")]
    delivery_id: Uuid,

    /// The outcome that you found out.
    #[arg(long = "as", value_enum, value_name = "STATE")]
    finding: Finding,

    #[command(flatten)]
    attribution: Attribution,

    #[command(flatten)]
    database: Database,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let (id, finding, by) = (self.delivery_id, self.finding, self.attribution.by()?);
        let store = self.database.open(ONE_CONNECTION).await?;
        let resolution = store.resolve(id, finding, &by, &self.attribution.reason).await?;
        let problem = match told::resolved(id, finding, &by, &resolution) {
            Ok(done) => return print_line(&done),
            Err(problem) => problem,
        };
        let cure = match resolution {
            Resolution::AlreadyResolved => format!("; `postcall show {id}` shows by whom"),
            Resolution::JustEnded => "; repeat the command".to_owned(),
            _ => String::new(),
        };
        Err(CliError::Problem(format!("{problem}{cure}")))
    }
}
