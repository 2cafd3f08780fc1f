//! File descriptors: each connection takes one, and the usual soft limit of 1024 is far below what is configured.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything but client connections: broker, store, model files, log.
const OWN: u64 = 256;

/// Raises the soft limit so that `connections` fit, as far as the hard limit allows; says so where it does not.
pub fn make_room(connections: usize) {
    let wanted = u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_add(OWN);
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current.filter(|current| *current < wanted) else {
        return;
    };
    let possible = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = Rlimit {
        current: Some(possible),
        ..limit
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => possible,
        Err(_) => current,
    };
    if now < wanted {
        tracing::warn!(
            limit = now,
            wanted,
            "{now} file descriptors are allowed, {wanted} would be needed for --max-connections / \
             SELVAGE_MAX_CONNECTIONS; further connections will wait"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_never_lowered_and_reaches_what_is_possible() {
        let before = getrlimit(Resource::Nofile);
        make_room(100);
        let after = getrlimit(Resource::Nofile);
        assert!(
            after
                .current
                .is_none_or(|now| before.current.is_some_and(|then| now >= then))
        );
        let fits = |limit: u64| after.maximum.is_some_and(|maximum| maximum < limit);
        assert!(after.current.is_none_or(|now| now >= 100 + OWN) || fits(100 + OWN));
    }
}
