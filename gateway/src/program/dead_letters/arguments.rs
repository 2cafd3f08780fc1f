//! The arguments of `selvage-gateway dead-letters`.

use clap::{Args, Subcommand};
use selvage_core::job::JobId;

/// Looks at messages that were dead-lettered: jobs that took their workers down, and what no worker could read.
///
/// Needs the settings of the fleet's gateways: --amqp-url, --redis-url, --prefix and --models, or their variables.
#[derive(Clone, Debug, Args)]
pub struct DeadLettersCommand {
    #[command(subcommand)]
    #[expect(missing_docs, reason = "a doc comment would become help text")]
    pub action: Action,
}

/// What is done with them.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// List them, oldest first.
    List {
        /// Most dead letters to list.
        #[arg(long, default_value_t = 100, value_name = "DEAD_LETTERS")]
        limit: u64,
        /// Leave out so many of the oldest.
        #[arg(long, default_value_t = 0, value_name = "DEAD_LETTERS")]
        offset: u64,
    },
    /// Ask about their images again, each as a new job whose `retry_of` names the old one.
    Replay {
        /// Ids of the dead letters.
        #[arg(value_name = "ID", required_unless_present = "all")]
        #[arg(conflicts_with = "all")]
        ids: Vec<JobId>,
        /// All that hold a job.
        #[arg(long)]
        all: bool,
    },
    /// Throw all of them away.
    Purge,
}
