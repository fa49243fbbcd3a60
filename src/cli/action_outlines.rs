//! `postcall action list` for those who may not read templates, as auditors.

use super::table::{Table, time};
use super::{CliError, Format};
use crate::store::outlines::ActionOutline;

/// Prints actions without their templates.
pub(super) fn print(outlines: &[ActionOutline], format: Format) -> Result<(), CliError> {
    let header = ["agent", "action", "version", "enabled", "method", "goes to", "timeout ms", "published", "by"];
    let mut table = Table::new(&header);
    for outline in outlines {
        table.row(vec![
            outline.agent.clone(),
            outline.name.clone(),
            outline.version.to_string(),
            outline.enabled.to_string(),
            outline.method.to_string(),
            outline.origin.clone().unwrap_or_default(),
            outline.timeout.to_string(),
            time(outline.changes.published_at),
            outline.changes.published_by.clone(),
        ]);
    }
    table.print(format, outlines)?;
    eprintln!(
        "without templates, which this database user may not read; `--format json` has a digest of each action's"
    );
    Ok(())
}
