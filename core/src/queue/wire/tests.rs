//! What must hold of the wire format, whatever is in the messages.

use ::bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::jobs::JOB_OVERHEAD;
use super::reports::REPORT_OVERHEAD;
use super::*;
use crate::clock::UnixMillis;
use crate::job::{CachePolicy, Idempotency, Job, JobId, ReplyAddress, Submission};
use crate::key::{Digest, PredictionKey};
use crate::outcome::{Cost, Failure, FailureCode, Outcome, Report, Scores};

const CODES: [FailureCode; 6] = [
    FailureCode::InvalidImage,
    FailureCode::ImageTooLarge,
    FailureCode::InferenceFailed,
    FailureCode::Poison,
    FailureCode::ModelGone,
    FailureCode::DeadLettered,
];

fn submissions() -> impl Strategy<Value = Submission> {
    let idempotency = proptest::option::of(any::<[u8; 32]>());
    let metadata = vec((".{0,8}", ".{0,8}"), 0..3);
    let owner = option::of("[A-Za-z0-9][A-Za-z0-9._-]{0,63}");
    let numbered = ("[0-9.]{0,6}", any::<u16>());
    (numbered, metadata, idempotency, owner).prop_map(
        |((version, top_k), metadata, idempotency, owner)| Submission {
            version,
            top_k,
            metadata: metadata.into_iter().map(|(k, v)| (k, v.into())).collect(),
            idempotency: idempotency.map(|bytes| Idempotency {
                key: Digest::from_bytes(bytes),
                fingerprint: Digest::of(&bytes),
            }),
            owner: owner.map(|name| name.parse().unwrap()),
            webhook: None,
            retry_of: None,
            image_hash: None,
        },
    )
}

prop_compose! {
    // Few models and addresses, so that neighbours often share them and often do not.
    fn jobs()(
        id in any::<[u8; 16]>(),
        model in prop_oneof!["[a-z][a-z0-9._-]{0,63}", Just("fashion-mnist".to_owned())],
        digests in (0_u8..2, any::<[u8; 32]>()),
        preprocessing in 0_u64..2,
        moments in any::<(u64, u64)>(),
        cache in any::<(bool, bool)>(),
        earlier_attempts in any::<u32>(),
        reply_to in option::of(prop_oneof![Just("selvage.v1.reply.1".to_owned()), ".{0,40}"]),
        texts in (option::of(".{0,40}"), option::of(".{0,55}")),
        submission in option::of(submissions()),
        image in vec(any::<u8>(), 0..600),
    ) -> Job {
        Job {
            id: JobId::from_bytes(id),
            model: model.parse().unwrap(),
            key: PredictionKey {
                model: Digest::from_bytes([digests.0; 32]),
                preprocessing,
                image: Digest::from_bytes(digests.1),
            },
            created_at: UnixMillis(moments.0),
            deadline: UnixMillis(moments.1),
            cache: CachePolicy { read: cache.0, write: cache.1 },
            earlier_attempts,
            reply_to: reply_to.map(|text| ReplyAddress(text.into())),
            request_id: texts.0.map(Into::into),
            traceparent: texts.1.map(Into::into),
            submission,
            image: image.into(),
        }
    }
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        vec(any::<f32>().prop_filter("equality", |f| !f.is_nan()), 0..40)
            .prop_map(|scores| Outcome::Succeeded(Scores::new(scores))),
        (0..CODES.len(), ".{0,80}")
            .prop_map(|(code, detail)| Outcome::Failed(Failure::new(CODES[code], detail))),
        Just(Outcome::Canceled),
        Just(Outcome::Expired),
    ]
}

prop_compose! {
    fn reports()(
        id in any::<[u8; 16]>(),
        outcome in outcomes(),
        spans in any::<(u32, u32, u32, u16)>(),
        attempts in any::<u32>(),
        cached in any::<bool>(),
    ) -> Report {
        let (waited_us, decode_us, inference_us, batch_size) = spans;
        let cost = Cost { waited_us, decode_us, inference_us, batch_size };
        Report { id: JobId::from_bytes(id), outcome, cost, attempts, cached }
    }
}

proptest! {
    #[test]
    fn jobs_survive_the_wire(jobs in vec(jobs(), 1..5)) {
        let bytes = encode_jobs(&jobs).unwrap();
        // It has not grown while it was written.
        prop_assert!(bytes.capacity() <= bytes.len() + jobs.len() * JOB_OVERHEAD);
        prop_assert_eq!(decode_jobs(&bytes.into()).unwrap(), jobs);
    }

    #[test]
    fn reports_survive_the_wire(reports in vec(reports(), 1..20)) {
        let bytes = encode_reports(&reports).unwrap();
        prop_assert!(bytes.capacity() <= bytes.len() + reports.len() * REPORT_OVERHEAD);
        prop_assert_eq!(decode_reports(&bytes).unwrap(), reports);
    }

    #[test]
    fn garbage_is_an_error_or_a_message_and_never_a_panic(
        kind in 0..3_usize,
        count in any::<u16>(),
        rest in vec(any::<u8>(), 0..400),
    ) {
        let mut bytes = [&[1, b'S', b'J'][..], &[1, b'S', b'R'], &[]][kind].to_vec();
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&rest);
        let _ = decode_jobs(&bytes.clone().into());
        let _ = decode_reports(&bytes);
    }

    #[test]
    fn one_altered_byte_never_panics(jobs in vec(jobs(), 1..3), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = encode_jobs(&jobs).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = decode_jobs(&bytes.into());
    }
}

fn sample_jobs() -> Vec<Job> {
    let first = Job {
        id: "01929f3e-0000-7000-8000-000000000001".parse().unwrap(),
        model: "fashion-mnist".parse().unwrap(),
        key: PredictionKey {
            model: Digest::of(b"model"),
            preprocessing: 7,
            image: Digest::of(b"image"),
        },
        created_at: UnixMillis(1_700_000_000_000),
        deadline: UnixMillis(1_700_000_010_000),
        cache: CachePolicy::default(),
        earlier_attempts: 0,
        reply_to: Some(ReplyAddress("selvage.v1.reply.ab".into())),
        request_id: Some("r-1".into()),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        submission: None,
        image: Bytes::from_static(b"image"),
    };
    let second = Job {
        id: "01929f3e-0000-7000-8000-000000000002".parse().unwrap(),
        cache: CachePolicy {
            read: false,
            write: true,
        },
        request_id: None,
        traceparent: None,
        ..first.clone()
    };
    let third = Job {
        id: "01929f3e-0000-7000-8000-000000000003".parse().unwrap(),
        model: "clothing".parse().unwrap(),
        earlier_attempts: 2,
        reply_to: None,
        submission: Some(Submission {
            version: "1".to_owned(),
            top_k: 3,
            metadata: serde_json::Map::from_iter([("shelf".to_owned(), 4.into())]),
            idempotency: None,
            owner: None,
            webhook: None,
            retry_of: None,
            image_hash: None,
        }),
        image: Bytes::new(),
        ..second.clone()
    };
    vec![first, second, third]
}

fn sample_reports() -> Vec<Report> {
    let outcomes = [
        Outcome::Succeeded(Scores::new(vec![0.25, 0.75])),
        Outcome::Failed(Failure::new(FailureCode::InvalidImage, "cut off")),
        Outcome::Canceled,
        Outcome::Expired,
    ];
    let report = |(n, outcome)| Report {
        id: sample_jobs()[0].id,
        outcome,
        cost: Cost {
            waited_us: 1,
            decode_us: 2,
            inference_us: 3,
            batch_size: 4,
        },
        attempts: n,
        cached: n == 1,
    };
    (1..).zip(outcomes).map(report).collect()
}

/// Messages as version 1 wrote them: what waits in a broker during an upgrade. These texts never change.
const JOBS_V1: &str = concat!(
    "01534a03007a01929f3e0000700080000000000000010d0066617368696f6e2d6d6e6973749372c470eeadd5ecd9c3c74c2b",
    "3cb633f8e2f2fad799250a0f70d652b6b825e407000000000000006105d6cc76af400325e94d588ce511be5bfdbb73b437dc",
    "51eca43917d7a43e3d0068e5cf8b010000108fe5cf8b01000000000000130073656c766167652e76312e7265706c792e6162",
    "0300722d31370030302d34626639326633353737623334646136613363653932396430653065343733362d30306630363761",
    "6130626139303262372d303105000000696d6167651701929f3e0000700080000000000000026105d6cc76af400325e94d58",
    "8ce511be5bfdbb73b437dc51eca43917d7a43e3d0068e5cf8b010000108fe5cf8b0100000000000005000000696d61676590",
    "01929f3e0000700080000000000000030800636c6f7468696e679372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a",
    "0f70d652b6b825e407000000000000006105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d0068",
    "e5cf8b010000108fe5cf8b01000002000000300000007b2276657273696f6e223a2231222c22746f705f6b223a332c226d65",
    "746164617461223a7b227368656c66223a347d7d00000000",
);
const REPORTS_V1: &str = concat!(
    "015352040001929f3e00007000800000000000000180010000000100000002000000030000000400020000000000803e0000",
    "403f01929f3e000070008000000000000001010200000001000000020000000300000004000107000000637574206f666601",
    "929f3e0000700080000000000000010203000000010000000200000003000000040001929f3e000070008000000000000001",
    "03040000000100000002000000030000000400",
);

#[test]
fn version_1_is_still_read_and_written() {
    assert_eq!(hex::encode(encode_jobs(&sample_jobs()).unwrap()), JOBS_V1);
    assert_eq!(
        hex::encode(encode_reports(&sample_reports()).unwrap()),
        REPORTS_V1
    );
    let jobs = Bytes::from(hex::decode(JOBS_V1).unwrap());
    assert_eq!(decode_jobs(&jobs).unwrap(), sample_jobs());
    let reports = hex::decode(REPORTS_V1).unwrap();
    assert_eq!(decode_reports(&reports).unwrap(), sample_reports());
}

#[test]
fn a_message_cut_anywhere_is_an_error() {
    let jobs = Bytes::from(encode_jobs(&sample_jobs()).unwrap());
    for cut in 0..jobs.len() {
        let error = decode_jobs(&jobs.slice(..cut)).unwrap_err();
        assert_eq!(error, WireError::Cut, "cut at {cut}");
    }
    let reports = encode_reports(&sample_reports()).unwrap();
    for cut in 0..reports.len() {
        let error = decode_reports(&reports[..cut]).unwrap_err();
        assert_eq!(error, WireError::Cut, "cut at {cut}");
    }
}

#[test]
fn other_versions_kinds_and_left_over_bytes_are_distinguished() {
    let jobs = encode_jobs(&sample_jobs()).unwrap();
    let altered = |at: usize, to: u8| {
        let mut bytes = jobs.clone();
        bytes[at] = to;
        decode_jobs(&bytes.into()).unwrap_err()
    };
    assert_eq!(altered(0, 0), WireError::Version(0));
    assert_eq!(altered(0, 2), WireError::Version(2));
    assert_eq!(altered(2, b'R'), WireError::Kind);
    assert_eq!(decode_reports(&jobs).unwrap_err(), WireError::Kind);

    let mut longer = jobs.clone();
    longer.push(0);
    assert_eq!(
        decode_jobs(&longer.into()).unwrap_err(),
        WireError::Trailing
    );
    let empty = Bytes::from_static(&[1, b'S', b'J', 0, 0]);
    assert_eq!(decode_jobs(&empty).unwrap_err(), WireError::Empty);
    assert_eq!(encode_jobs(&[]).unwrap_err(), WireError::Empty);
}

#[test]
fn lying_lengths_reserve_nothing() {
    // 65,535 jobs in five bytes, an image of 4 GiB, scores for four billion labels: each fails at the first missing byte.
    assert_eq!(
        decode_jobs(&Bytes::from_static(&[1, b'S', b'J', 0xff, 0xff])).unwrap_err(),
        WireError::Cut
    );
    let mut image = encode_jobs(&sample_jobs()[..1]).unwrap();
    let length_at = image.len() - b"image".len() - 4;
    image[length_at..length_at + 4].fill(0xff);
    assert_eq!(decode_jobs(&image.into()).unwrap_err(), WireError::Cut);
    let mut scores = encode_reports(&sample_reports()[..1]).unwrap();
    let count_at = scores.len() - 2 * 4 - 4;
    scores[count_at..count_at + 4].fill(0xff);
    assert_eq!(decode_reports(&scores).unwrap_err(), WireError::Cut);
}

#[test]
fn images_are_slices_of_the_received_body() {
    let body = Bytes::from(encode_jobs(&sample_jobs()).unwrap());
    let within = body.as_ptr_range();
    for job in decode_jobs(&body).unwrap() {
        assert!(job.image.is_empty() || within.contains(&job.image.as_ptr()));
    }
}

#[test]
fn a_text_longer_than_its_length_can_say_is_refused() {
    let mut job = sample_jobs().remove(0);
    job.request_id = Some("r".repeat(65_536).into());
    assert_eq!(
        encode_jobs(&[job]).unwrap_err(),
        WireError::TooLong("request id")
    );
}

#[test]
fn names_that_could_leave_their_queue_are_refused() {
    let bytes = encode_jobs(&sample_jobs()[..1]).unwrap();
    let name_at = bytes
        .windows(b"fashion".len())
        .position(|window| window == b"fashion")
        .unwrap();
    let mut bad = bytes.clone();
    bad[name_at] = b'/';
    assert_eq!(
        decode_jobs(&bad.into()).unwrap_err(),
        WireError::Malformed("model")
    );
}
