//! Micro-benchmarks of what every request goes through: hash, message, preparation, choice of a batch.
//!
//! `cargo bench -p selvage-bench`. The whole service is measured by `bench/run`.

use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use selvage_core::catalog::{Channels, Input, Polarity, Resize};
use selvage_core::clock::UnixMillis;
use selvage_core::job::{CachePolicy, Job, JobId, Priority, ReplyAddress};
use selvage_core::key::{Digest, PredictionKey};
use selvage_core::queue::wire::{decode_jobs, encode_jobs};
use selvage_worker::engine::batch::{PriorityQueues, Raw, Role, choose};
use selvage_worker::image::decode::Limits;
use selvage_worker::image::frame::Frame;
use selvage_worker::image::resize::Size;
use selvage_worker::image::tensor::Normaliser;
use selvage_worker::image::{Prepared, Preparer};

/// The size of a Fashion-MNIST picture as PNG, about.
const SMALL_PNG_BYTES: usize = 500;

fn hash(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sha256");
    for bytes in [SMALL_PNG_BYTES, 100_000] {
        let data = vec![7; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| Digest::of(black_box(&data)));
        });
    }
}

fn envelope(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    for count in [1, 16] {
        let jobs: Vec<Job> = (0..count).map(|_| job()).collect();
        let encoded = Bytes::from(encode_jobs(&jobs).expect("the jobs fit a message"));
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("encode", count), |bencher| {
            bencher.iter(|| encode_jobs(black_box(&jobs)))
        });
        group.bench_function(BenchmarkId::new("decode", count), |bencher| {
            bencher.iter(|| decode_jobs(black_box(&encoded)));
        });
    }
}

fn job() -> Job {
    let image = Bytes::from(vec![7; SMALL_PNG_BYTES]);
    Job {
        id: JobId::new(),
        model: "fashion-mnist".parse().expect("a model's name"),
        key: PredictionKey {
            model: Digest::of(b"model"),
            preprocessing: 1,
            image: Digest::of(&image),
        },
        created_at: UnixMillis(1_800_000_000_000),
        deadline: UnixMillis(1_800_000_010_000),
        cache: CachePolicy::default(),
        earlier_attempts: 0,
        reply_to: Some(ReplyAddress(Arc::from("amq.gen-0123456789abcdef"))),
        request_id: Some(Arc::from("01929f3e-0000-7000-8000-000000000000")),
        traceparent: None,
        submission: None,
        image,
    }
}

fn preparation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prepare");
    let mut preparer = Preparer::new(input(), Limits::with_pixels(40_000_000));
    let formats = [
        ("png", ImageFormat::Png),
        ("jpeg", ImageFormat::Jpeg),
        ("webp", ImageFormat::WebP),
        ("gif", ImageFormat::Gif),
        ("bmp", ImageFormat::Bmp),
    ];
    for (name, format) in formats {
        for side in [28, 640, 1200] {
            let file = encode(&photograph(side), format);
            group.bench_function(BenchmarkId::new(name, side), |bencher| {
                bencher.iter(|| preparer.prepare(black_box(&file)));
            });
        }
    }
    // What the preparation of a photograph is compared with: the `image` crate alone.
    let file = encode(&photograph(1200), ImageFormat::Jpeg);
    group.bench_function(BenchmarkId::new("jpeg with image alone", 1200), |bencher| {
        bencher.iter(|| {
            let decoded = image::load_from_memory(black_box(&file))
                .expect("the file was made here")
                .into_luma8();
            image::imageops::resize(&decoded, 28, 28, FilterType::Triangle)
        });
    });
    let normaliser = Normaliser::new(&input());
    let size = Size::new(28, 28);
    let pixels = Prepared::Pixels(vec![7; 28 * 28], Frame::whole(size, size));
    let mut tensor = vec![0.0; 28 * 28];
    group.bench_function("normalise", |bencher| {
        bencher.iter(|| normaliser.fill(black_box(&pixels), &mut tensor))
    });
}

/// An undecoded job as the choice of a batch sees it.
#[derive(Clone)]
struct Undecoded;

impl Raw for Undecoded {
    fn is_alone(&self) -> bool {
        false
    }

    fn bytes(&self) -> usize {
        SMALL_PNG_BYTES
    }
}

fn batch(criterion: &mut Criterion) {
    const JOBS: u64 = 256;
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(JOBS));
    group.bench_function("fill and empty two queues", |bencher| {
        bencher.iter(|| {
            let (mut raw, mut decoded) =
                (PriorityQueues::default(), PriorityQueues::<()>::default());
            for number in 0..JOBS {
                let priority = if number % 2 == 0 {
                    Priority::Interactive
                } else {
                    Priority::Batch
                };
                raw.push(priority, Undecoded);
            }
            while let Some(step) = choose(&mut raw, &mut decoded, 32, 1, Role::Both) {
                black_box(step);
            }
        });
    });
}

/// The `[input]` of the Fashion-MNIST model.
fn input() -> Input {
    Input {
        resize: Resize::Fit,
        polarity: Polarity::Auto,
        trim: true,
        mean: vec![0.286],
        std: vec![0.353],
        ..Input::new(28, 28, Channels::Gray)
    }
}

/// A square picture with soft and hard edges and some noise, so that decoders have honest work.
fn photograph(side: u32) -> DynamicImage {
    let mut state = 0x2545_F491_u32;
    let picture = RgbImage::from_fn(side, side, |x, y| {
        // xorshift32 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let noise = (state & 7) as u8;
        let (x, y) = (x * 255 / side, y * 255 / side);
        let is_object = (64..192).contains(&x) && (48..208).contains(&y);
        let [r, g, b] = if is_object {
            [x, 255 - y, (x + y) / 2]
        } else {
            [240, 240, 235]
        };
        Rgb([r, g, b].map(|value| (value as u8).saturating_add(noise)))
    });
    DynamicImage::ImageRgb8(picture)
}

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture
        .write_to(&mut file, format)
        .expect("the format holds the picture");
    file.into_inner()
}

criterion_group!(benches, hash, envelope, preparation, batch);
criterion_main!(benches);
