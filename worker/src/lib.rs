//! The worker: jobs in, predictions out.
