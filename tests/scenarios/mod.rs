//! The list of scenarios: each behaviour once, by name, with the shapes and settings it needs.

mod access;
mod advice;
mod answers;
mod bad_images;
mod bad_json;
mod bad_requests;
mod cache;
mod changes;
mod cli;
mod crafted_images;
mod dead_letters;
mod devices;
mod discovery;
mod edge;
mod events;
mod flood;
mod jobs;
mod leaving;
mod limits;
mod memory;
mod metrics;
mod models;
mod oip;
mod openapi;
mod photographs;
pub(crate) mod pools;
mod raw_http;
mod readme;
mod stats;
mod tasks;
mod trace_shapes;
mod tracing;
mod webhooks;
mod workers;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use selvage_tests::{Deployment, Settings, Shape, keys};

type Run = fn(Arc<Deployment>) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// One behaviour.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// Module and function.
    pub(crate) name: &'static str,
    /// Where it is run.
    pub(crate) shapes: &'static [Shape],
    /// A deployment of its own; `None` shares the plain one.
    pub(crate) settings: Option<fn() -> Settings>,
    /// The behaviour.
    pub(crate) run: Run,
}

macro_rules! scenarios {
    ($($module:ident::$name:ident $(on $shape:ident)? $(with $settings:expr)?;)*) => {
        vec![$(Scenario {
            name: concat!(stringify!($module), "::", stringify!($name)),
            shapes: scenarios!(@shapes $($shape)?),
            settings: scenarios!(@settings $($settings)?),
            run: |deployment| Box::pin($module::$name(deployment)),
        }),*]
    };
    (@shapes) => { &Shape::ALL };
    (@shapes $shape:ident) => { &[Shape::$shape] };
    (@settings) => { None };
    (@settings $settings:expr) => { Some($settings) };
}

/// Every scenario.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = scenarios! {
        access::a_key_beyond_its_rate_gets_a_retry_after with keys::limited;
        access::jobs_belong_to_their_key with keys::guarded;
        access::a_key_does_not_see_what_others_have_asked with keys::guarded;
        access::only_known_keys_pass with keys::guarded;
        access::without_keys_an_address_has_its_rate on Embedded with || Settings::default().with("SELVAGE_RATE_PER_ADDRESS", "3/h");
        answers::a_boot_is_an_ankle_boot;
        answers::scores_equal_those_of_another_runtime;
        answers::every_body_form_gives_the_same_answer;
        answers::every_format_gives_the_same_answer;
        answers::a_photograph_on_white_is_recognised;
        answers::orientation_in_exif_is_applied;
        answers::options_shape_the_answer_and_not_the_scores;
        cache::a_repeat_is_answered_without_a_job;
        cache::identical_images_in_flight_share_one_computation;
        cache::cache_control_is_obeyed;
        cache::a_result_is_shared_between_gateways on Fleet;
        cache::another_model_never_answers;
        changes::no_answer_is_wrong_or_lost_under_load with changes::followed;
        changes::a_fleet_in_the_middle_of_a_change_shows_it on Fleet with changes::followed_by_one;
        changes::two_files_side_by_side_answer_all on Fleet with changes::three_workers;
        changes::sighup_has_the_folder_read with changes::followed_on_signal;
        changes::description_and_file_change_together with changes::followed;
        changes::a_description_that_cannot_be_read_changes_nothing with changes::followed;
        cli::answers_come_as_a_table_or_as_json;
        cli::a_bad_image_fails_alone;
        cli::an_image_may_come_on_standard_input;
        cli::a_submitted_job_is_followed_to_its_end;
        cli::a_queued_job_is_canceled on Fleet with || Settings::default().workers(0);
        cli::an_early_end_says_what_is_left on Fleet with || Settings::default().workers(0);
        cli::an_interrupted_wait_leaves_no_work on Fleet with || Settings::default().workers(0);
        cli::following_survives_a_broken_connection on Fleet with || Settings::default().workers(0);
        cli::a_full_gateway_is_asked_again on Fleet with cli::one_place;
        cli::folders_and_patterns_are_the_images_in_them;
        cli::a_server_that_is_not_there_is_said;
        cli::a_slow_connection_is_said;
        cli::a_proxy_is_named_without_its_password;
        cli::a_reader_that_leaves_is_no_failure;
        cli::a_benchmark_counts_and_checks_responses;
        cli::a_benchmark_ends_early_in_good_order;
        cli::a_key_is_sent_and_never_printed with keys::guarded;
        cli::models_and_readiness_are_shown;
        cli::a_models_folder_is_checked_before_it_is_served;
        cli::completions_are_scripts_of_their_shells;
        devices::float_models_give_the_scores_of_the_cpu on Embedded with devices::exports_on_openvino;
        devices::the_included_model_gives_the_labels_of_the_cpu on Embedded with devices::on_openvino;
        devices::the_device_of_each_model_is_shown with devices::on_openvino;
        devices::what_the_cpu_runs_is_named on Embedded with devices::partly_on_openvino;
        jobs::an_accepted_job_finishes_and_can_be_polled_anywhere;
        jobs::prefer_decides_how_long_to_wait;
        jobs::a_wait_that_runs_out_becomes_a_job on Fleet with || Settings::default().workers(0);
        jobs::a_queued_job_can_be_canceled on Fleet with || Settings::default().workers(0);
        jobs::a_waiting_client_learns_of_a_cancellation_elsewhere on Fleet with || Settings::default().workers(0);
        jobs::a_finished_job_cannot_be_canceled;
        jobs::many_lists_of_one_key_stop_no_other with keys::guarded;
        jobs::the_callers_jobs_are_listed with keys::guarded;
        jobs::positions_only_fall on Fleet with || Settings::default().workers(0);
        jobs::unknown_and_forgotten_ids_are_distinguished;
        jobs::an_expired_job_says_so on Fleet with || Settings::default().workers(0).with("SELVAGE_JOB_DEADLINE", 2);
        jobs::a_bad_image_in_a_job_fails_it_with_a_reason;
        events::two_thousand_streams_are_held_and_ended on Fleet with || Settings::default().workers(0);
        events::a_stream_passes_a_proxy_and_is_resumed_after_a_cut on Fleet with || Settings::default().workers(0);
        leaving::what_nobody_waits_for_is_not_run on Embedded with Settings::default;
        leaving::what_nobody_waits_for_is_not_run on Fleet with || Settings::default().workers(0);
        models::models_are_listed_with_their_rules;
        models::a_second_model_answers_by_name;
        models::the_input_is_what_the_model_is_given;
        models::an_inference_without_end_is_broken_off on Embedded with models::endless;
        models::an_image_that_hangs_its_decoder_costs_no_other_job on Embedded with models::hanging_decoder;
        photographs::photographs_are_classified_as_in_python;
        photographs::pictures_with_faults_are_classified_as_in_python;
        pools::a_model_that_is_stuck_delays_no_other with pools::one_worker;
        pools::each_model_can_have_workers_of_its_own on Fleet with || Settings::default().workers(0);
        openapi::every_answer_is_as_described on Embedded with openapi::open;
        openapi::every_answer_is_as_described on Fleet with openapi::guarded;
        openapi::what_admins_are_answered_is_as_described on Embedded with openapi::guarded;
        oip::the_stock_client_gets_the_scores_of_predict;
        oip::the_stock_client_needs_a_key_where_keys_are_needed with keys::guarded;
        oip::colours_are_taken_in_the_layout_of_the_model;
        dead_letters::an_idle_deployment_has_none with keys::guarded;
        dead_letters::a_poisonous_job_is_listed_and_replayed on Fleet with dead_letters::poisonous;
        dead_letters::foreign_messages_are_dead_lettered_and_harm_nobody on Fleet with keys::guarded;
        discovery::the_home_page_needs_nothing_from_elsewhere;
        discovery::health_and_metrics_are_served;
        discovery::request_ids_are_kept_or_made;
        discovery::a_program_tells_whether_its_running_copy_is_ready;
        discovery::the_operators_listener_has_health_and_metrics_and_nothing_else on Embedded with keys::guarded;
        discovery::unknown_paths_and_methods_are_problems;
        bad_images::no_bad_image_does_harm;
        crafted_images::no_crafted_image_does_harm;
        bad_images::hostile_images_leave_memory_bounded;
        metrics::everything_worth_a_look_is_measured with metrics::fresh;
        memory::ten_thousand_requests_leave_memory_as_it_was on Embedded with Settings::default;
        bad_requests::no_bad_request_does_harm;
        raw_http::broken_http_is_refused;
        readme::the_python_example_runs;
        edge::connections_beyond_the_cap_take_the_slots_of_idle_ones on Embedded with || Settings::default().with("SELVAGE_MAX_CONNECTIONS", 8).with("SELVAGE_MAX_CONNECTIONS_PER_ADDRESS", 8);
        edge::one_address_leaves_places_to_others on Embedded with || Settings::default().with("SELVAGE_MAX_CONNECTIONS_PER_ADDRESS", 4);
        edge::a_gateway_without_descriptors_rests_and_recovers on Embedded with || Settings::default().descriptors(64);
        edge::answers_before_a_drain_close_their_connections on Embedded with Settings::default;
        edge::stuck_clients_do_not_hold_up_a_drain with || Settings::default().workers(0);
        flood::slow_heads_do_not_slow_others on Embedded with Settings::default;
        flood::slow_bodies_do_not_slow_others on Embedded with Settings::default;
        flood::slow_readers_do_not_slow_others on Embedded with Settings::default;
        flood::a_flood_from_few_addresses_silences_nobody on Embedded with || Settings::default().with("SELVAGE_MAX_CONNECTIONS", 64);
        limits::work_beyond_the_bound_is_refused_early with || Settings::default().with("SELVAGE_MAX_IN_FLIGHT", 1);
        advice::retry_after_of_a_refused_client_is_near_the_truth with advice::few_places;
        limits::without_a_store_waiting_still_works on Fleet with limits::redis_away;
        stats::numbers_are_those_of_the_whole_fleet;
        stats::gateways_that_end_leave_the_list on Fleet with Settings::default;
        tasks::each_task_has_its_result with tasks::every_task;
        tasks::a_vector_comes_as_json_or_as_floats with tasks::every_task;
        tasks::tensors_get_boxes_and_vectors with tasks::every_task;
        tracing::a_request_is_one_tree_from_http_to_inference;
        tracing::a_trace_begins_here_and_its_last_spans_are_sent_at_the_end;
        tracing::a_collector_that_hangs_stops_nothing;
        tracing::a_collector_that_refuses_costs_spans_and_nothing_else;
        tracing::a_collector_that_is_not_there_costs_spans_and_nothing_else;
        trace_shapes::an_inference_of_the_protocol_is_one_tree;
        trace_shapes::the_jobs_of_one_request_are_branches_of_its_tree;
        trace_shapes::a_computation_that_is_shared_is_in_one_trace on Fleet;
        trace_shapes::a_job_that_comes_again_goes_on_in_its_trace on Fleet;
        webhooks::the_end_of_a_job_is_delivered_and_signed with webhooks::allowed;
        webhooks::each_key_has_a_secret_of_its_own with webhooks::of_keys;
        webhooks::webhooks_are_delivered_over_tls_and_only_with_a_known_root with webhooks::over_tls;
        webhooks::a_receiver_that_misbehaves_is_tried_again with webhooks::allowed;
        webhooks::a_killed_gateways_webhook_is_delivered_by_another on Fleet with webhooks::alone;
        webhooks::addresses_that_are_not_public_get_no_webhook with webhooks::strict;
        workers::workers_join_by_being_started on Fleet with || Settings::default().workers(0);
        workers::a_killed_worker_loses_nothing on Fleet with Settings::default;
        workers::a_drain_finishes_what_was_accepted with Settings::default;
    };
    // The plugin of OpenVINO is for these processors only.
    let has_openvino = cfg!(target_arch = "x86_64");
    all.retain(|scenario| has_openvino || !scenario.name.starts_with("devices::"));
    all
}
