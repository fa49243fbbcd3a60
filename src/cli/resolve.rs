//! `postcall resolve`: records a person's finding about a delivery whose outcome could not be known.

use clap::{Args, ValueEnum};
use uuid::Uuid;

use super::attribution::Attribution;
use super::{CliError, Database, ONE_CONNECTION, print_line};
use crate::domain::delivery::Finding;
use crate::domain::visible::visible;
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
    finding: Found,

    #[command(flatten)]
    attribution: Attribution,

    #[command(flatten)]
    database: Database,
}

#[derive(Clone, Copy, ValueEnum)]
enum Found {
    /// The receiver took it.
    Delivered,
    /// The receiver had it and refused it.
    Rejected,
    /// It never reached the receiver.
    Failed,
}

impl From<Found> for Finding {
    fn from(found: Found) -> Finding {
        match found {
            Found::Delivered => Finding::Delivered,
            Found::Rejected => Finding::Rejected,
            Found::Failed => Finding::Failed,
        }
    }
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let (id, finding, by) = (self.delivery_id, Finding::from(self.finding), self.attribution.by()?);
        let store = self.database.open(ONE_CONNECTION).await?;
        let problem = match store.resolve(id, finding, &by, &self.attribution.reason).await? {
            Resolution::Resolved => {
                return print_line(&format!("{id} is resolved as {}, says {}", finding.state(), visible(&by)));
            }
            Resolution::NotUnknown { state } => format!("{id} is {state}: only what is unknown can be resolved"),
            Resolution::AlreadyResolved => format!("{id} was resolved before; `postcall show {id}` shows by whom"),
            Resolution::Replayed { replay } => {
                format!("{id} was replayed as {replay}, which tells more about the message; nothing is recorded")
            }
            Resolution::JustEnded => format!("{id} ended as unknown at this moment; repeat the command"),
            Resolution::NoSuchDelivery => format!("there is no delivery {id}"),
        };
        Err(CliError::Problem(problem))
    }
}
