//! What every queue must do, as functions any backend's tests can run. Nothing here knows a backend.

mod dead_letters;
mod deliveries;
mod fixture;
mod flow;

pub use dead_letters::*;
pub use deliveries::*;
pub use fixture::{CleanUp, Fixture, alone, eventually, job, submitted};
pub use flow::*;

/// Makes one test of each guarantee; `$make(capacity)` gives a future of a fresh [`Fixture`] whose queues hold that many
/// messages of one job.
#[macro_export]
macro_rules! queue_suite {
    ($make:path) => {
        $crate::queue_suite!($make:
            an_acked_job_is_delivered_once
            every_field_of_a_job_arrives
            a_delivery_given_back_comes_again_and_says_so
            a_delivery_dropped_unsettled_comes_again
            a_delivery_dead_lettered_is_kept_and_not_delivered
            a_delivery_that_always_goes_back_is_dead_lettered_in_the_end
            a_dead_letter_arrives_until_it_is_acked
            a_large_job_arrives_whole
            queues_and_models_do_not_mix
            jobs_of_one_moment_arrive_once_each_and_in_order
            jobs_started_before_travel_alone
            splitting_sends_each_job_alone
            prefetch_bounds_what_is_in_hand
            a_full_queue_says_so_and_takes_jobs_again
            depth_counts_what_waits
            stop_ends_a_consumer_after_what_had_arrived
            a_stopped_consumer_leaves_the_rest_to_others
            a_dropped_publish_still_sends_its_job
            replies_reach_the_gateway
            a_closed_queue_takes_and_gives_nothing
        );
    };
    ($make:path: $($submission:ident)*) => {
        $(
            #[tokio::test]
            async fn $submission() {
                let mut fixture = $make(64).await;
                $crate::queue::suite::$submission(&mut fixture).await;
                fixture.end().await;
            }
        )*
    };
}
