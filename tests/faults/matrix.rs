//! Every fault there is, a line each.

use selvage_tests::load::Mix;

use super::programs::Kind::{Gateway, Worker};
use super::{Fault, broker, everything, jobs, lines, overload, programs, redis, secrets, soak};

/// A fault's function as [`Fault::new`] takes it.
macro_rules! by {
    ($function:path $(, $argument:expr)*) => {
        |stage, duration| Box::pin($function(stage, duration $(, $argument)*))
    };
}

/// The whole matrix, and what runs only when it is asked for by name.
pub(crate) fn all() -> Vec<Fault> {
    vec![
        Fault::new("worker-kill", by!(programs::kill, Worker)).short(),
        Fault::new("worker-kills", by!(jobs::kills))
            .settings(jobs::slow_pictures)
            .mix(jobs::few),
        Fault::new(
            "worker-crash-after-claim",
            by!(programs::crash, Worker, "after_claim"),
        )
        .short(),
        Fault::new(
            "worker-crash-after-inference",
            by!(programs::crash, Worker, "after_inference"),
        ),
        Fault::new(
            "worker-crash-after-store",
            by!(programs::crash, Worker, "after_store"),
        ),
        Fault::new(
            "worker-crash-before-ack",
            by!(programs::crash, Worker, "before_ack"),
        )
        .short(),
        Fault::new("worker-pause", by!(programs::pause_worker)),
        Fault::new(
            "worker-rolling-restart",
            by!(programs::rolling_restart, Worker),
        )
        .gentle()
        .short(),
        Fault::new("gateway-kill", by!(programs::kill, Gateway)).short(),
        Fault::new(
            "gateway-crash-after-record",
            by!(programs::crash, Gateway, "after_record"),
        )
        .short(),
        Fault::new(
            "gateway-crash-after-publish",
            by!(programs::crash, Gateway, "after_publish"),
        ),
        Fault::new(
            "gateway-crash-after-confirm",
            by!(programs::crash, Gateway, "after_confirm"),
        )
        .short(),
        Fault::new(
            "gateway-rolling-restart",
            by!(programs::rolling_restart, Gateway),
        )
        .gentle()
        .short(),
        Fault::new("broker-kill", by!(broker::kill)).short(),
        Fault::new("broker-stop", by!(broker::stop)),
        Fault::new("broker-pause", by!(broker::pause)).short(),
        Fault::new("broker-memory-alarm", by!(broker::memory_alarm)).short(),
        Fault::new("broker-disk-alarm", by!(broker::disk_alarm)),
        Fault::new("broker-queue-full", by!(broker::queue_full)).short(),
        Fault::new("broker-queue-deleted", by!(broker::queue_deleted)).short(),
        Fault::new("broker-exchange-deleted", by!(broker::exchange_deleted)),
        Fault::new("broker-connections-closed", by!(broker::connections_closed)),
        Fault::new("broker-replies-lost", by!(broker::replies_lost)).short(),
        Fault::new("broker-consumer-timeout", by!(broker::consumer_timeout)),
        Fault::new(
            "broker-cut-in-mid-frame",
            by!(lines::broker_cut_in_mid_frame),
        )
        .short(),
        Fault::new("broker-latency", by!(lines::broker_latency)),
        Fault::new("broker-blackhole", by!(lines::broker_blackhole)).short(),
        Fault::new("broker-confirms-lost", by!(lines::broker_mute)).short(),
        Fault::new("broker-acks-lost", by!(lines::broker_deaf)),
        Fault::new("redis-latency", by!(lines::redis_latency)),
        Fault::new("redis-blackhole", by!(lines::redis_blackhole)).short(),
        Fault::new("redis-kill", by!(redis::kill)).short(),
        Fault::new("redis-pause", by!(redis::pause)).short(),
        Fault::new("redis-flushall", by!(redis::flush))
            .mix(waits_only)
            .short(),
        Fault::new("redis-script-flush", by!(redis::script_flush)),
        Fault::new("redis-full", by!(redis::full)).short(),
        Fault::new("redis-read-only", by!(redis::read_only)),
        Fault::new("poison", by!(jobs::poison))
            .settings(jobs::poisonous)
            .short(),
        Fault::new("inference-hang", by!(jobs::hang))
            .settings(jobs::endless)
            .short(),
        Fault::new("foreign-messages", by!(jobs::foreign_messages)).short(),
        Fault::new("secrets-at-trace", by!(secrets::used))
            .settings(secrets::talkative)
            .mix(secrets::with_a_key)
            .short(),
        Fault::new("overload", by!(overload::tenfold))
            .settings(overload::few_places)
            .mix(overload::beside),
        Fault::new("soak", by!(soak::soak)).by_itself(),
        Fault::new("everything", by!(everything::everything))
            .settings(everything::settings)
            .by_itself(),
    ]
}

fn waits_only() -> Mix {
    Mix {
        jobs: false,
        ..Mix::default()
    }
}
