//! Images that are broken, lying or hostile: each has its code, and none does harm.

use std::sync::Arc;

use image::{DynamicImage, ImageFormat};
use selvage_tests::pictures::{PNG_SIGNATURE, lying_png, png_chunk, png_header, png_of};
use selvage_tests::usage::peak_memory_kib;
use selvage_tests::{Deployment, Shape, pictures};

/// A row: what it is, the bytes, and the allowed status codes with their error codes.
pub(super) type Row = (&'static str, Vec<u8>, &'static [(u16, &'static str)]);

pub(super) const UNSUPPORTED: &[(u16, &str)] = &[(415, "unsupported_media_type")];
pub(super) const INVALID: &[(u16, &str)] = &[(422, "invalid_image")];
pub(super) const TOO_LARGE: &[(u16, &str)] = &[(422, "image_too_large")];
pub(super) const FINE: &[(u16, &str)] = &[(200, "")];
/// Decoders may take it or leave it, but must do one of the two.
pub(super) const EITHER: &[(u16, &str)] = &[(200, ""), (422, "invalid_image")];

pub(super) async fn no_bad_image_does_harm(on: Arc<Deployment>) -> anyhow::Result<()> {
    let rows = foreign()
        .into_iter()
        .chain(pngs())
        .chain(others())
        .chain(odd_but_valid());
    judge(on, rows.collect()).await
}

/// Sends every row, compares, and looks that everything is still alive.
pub(super) async fn judge(on: Arc<Deployment>, rows: Vec<Row>) -> anyhow::Result<()> {
    let client = on.client();
    let mut wrong = Vec::new();
    for (what, bytes, allowed) in rows {
        let answer = client.post_image("/predict?wait=30", bytes).await?;
        let seen = (
            answer.status,
            if answer.status == 200 {
                ""
            } else {
                answer.code()
            },
        );
        if !allowed.contains(&seen) {
            wrong.push(format!(
                "{what}: {seen:?}, allowed {allowed:?}: {}",
                answer.json
            ));
        } else if answer.status != 200 {
            assert_eq!(
                answer.header("content-type"),
                "application/problem+json",
                "{what}"
            );
        } else {
            let finite = answer.json["output"]["score"]
                .as_f64()
                .is_some_and(f64::is_finite);
            assert!(finite, "{what}: {}", answer.json);
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let after = client
        .post_image("/predict", pictures::boot())
        .await?
        .expect(200);
    assert_eq!(after.label(), "Ankle boot");
    assert_all_alive(&on);
    Ok(())
}

fn assert_all_alive(on: &Deployment) {
    on.with_workers(|workers| {
        assert!(
            workers.iter_mut().all(|worker| worker.is_alive()),
            "a worker died"
        )
    });
    on.with_gateways(|gateways| {
        assert!(
            gateways.iter_mut().all(|gateway| gateway.is_alive()),
            "a gateway died"
        )
    });
}

/// Content that is no allowed image format at all.
fn foreign() -> Vec<Row> {
    let noise: Vec<u8> = pictures::noise(300, 300, 3)
        .into_iter()
        .rev()
        .take(100_000)
        .collect();
    vec![
        ("random bytes", noise, UNSUPPORTED),
        (
            "HTML",
            b"<!doctype html><title>x</title>".to_vec(),
            UNSUPPORTED,
        ),
        (
            "SVG",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(),
            UNSUPPORTED,
        ),
        ("PDF", b"%PDF-1.7\n".to_vec(), UNSUPPORTED),
        ("ZIP", b"PK\x03\x04\x14\0\0\0".to_vec(), UNSUPPORTED),
        ("ELF", b"\x7fELF\x02\x01\x01".to_vec(), UNSUPPORTED),
        ("TIFF", b"II*\0\x08\0\0\0\0\0".to_vec(), UNSUPPORTED),
        (
            "AVIF",
            b"\0\0\0\x1cftypavif\0\0\0\0avifmif1".to_vec(),
            UNSUPPORTED,
        ),
        (
            "Radiance HDR",
            b"#?RADIANCE\n\n+X 4294967295 -Y 1\n".to_vec(),
            UNSUPPORTED,
        ),
        ("Photoshop", b"8BPS\0\x01\0\0".to_vec(), UNSUPPORTED),
        (
            "Windows icon",
            b"\0\0\x01\0\x01\0\x10\x10".to_vec(),
            UNSUPPORTED,
        ),
        ("one byte", b"\x89".to_vec(), UNSUPPORTED),
    ]
}

fn pngs() -> Vec<Row> {
    let good = pictures::noise(28, 28, 11);
    let mut bad_sum = good.clone();
    let idat = good
        .windows(4)
        .position(|kind| kind == b"IDAT")
        .unwrap_or_default();
    bad_sum[idat + 10] ^= 0xFF;
    let end = png_chunk(b"IEND", &[]);
    let rows = |width: usize, height: usize| pictures::deflate(&vec![0; (width + 1) * height]);
    let text_bomb = png_chunk(
        b"zTXt",
        &[b"a\0\0".to_vec(), pictures::deflate(&vec![b'x'; 8 << 20])].concat(),
    );
    let profile = png_chunk(
        b"iCCP",
        &[b"a\0\0".to_vec(), pictures::deflate(&vec![0; 4 << 20])].concat(),
    );
    let valid = vec![png_chunk(b"IDAT", &rows(28, 28)), end.clone()];
    let palette = {
        let mut header = 28_u32.to_be_bytes().to_vec();
        header.extend_from_slice(&28_u32.to_be_bytes());
        header.extend_from_slice(&[8, 3, 0, 0, 0]);
        let out_of_range = pictures::deflate(&[[0].to_vec(), vec![200; 28]].concat().repeat(28));
        let parts = [
            PNG_SIGNATURE.to_vec(),
            png_chunk(b"IHDR", &header),
            png_chunk(b"PLTE", &[1, 2, 3]),
        ];
        [
            parts.concat(),
            png_chunk(b"IDAT", &out_of_range),
            end.clone(),
        ]
        .concat()
    };
    vec![
        ("PNG signature only", PNG_SIGNATURE.to_vec(), INVALID),
        ("PNG of 0 × 0", lying_png(0, 0), INVALID),
        ("PNG of 0 × 10", lying_png(0, 10), INVALID),
        (
            "PNG of 100,000 × 100,000",
            lying_png(100_000, 100_000),
            TOO_LARGE,
        ),
        (
            "PNG of 30,000 × 30,000",
            png_of(30_000, 30_000, &valid),
            TOO_LARGE,
        ),
        (
            "PNG one pixel above the limit",
            lying_png(6400, 6251),
            TOO_LARGE,
        ),
        ("PNG strip of 1 × 65,535", lying_png(1, 65_535), TOO_LARGE),
        ("PNG with a wrong checksum", bad_sum, INVALID),
        (
            "PNG cut within its data",
            good[..good.len() / 2].to_vec(),
            INVALID,
        ),
        (
            "PNG without an end",
            good[..good.len() - 12].to_vec(),
            EITHER,
        ),
        (
            "PNG whose data are no zlib stream",
            png_of(28, 28, &[png_chunk(b"IDAT", &[7; 90]), end.clone()]),
            INVALID,
        ),
        (
            "PNG that says more rows than it has",
            lying_png(28, 28),
            INVALID,
        ),
        (
            "PNG that inflates far past its rows",
            pictures::inflating_png(),
            EITHER,
        ),
        (
            "PNG with compressed text bombs",
            png_of(28, 28, &[vec![text_bomb; 4].concat(), valid.concat()]),
            EITHER,
        ),
        (
            "PNG with a huge colour profile",
            png_of(28, 28, &[profile, valid.concat()]),
            EITHER,
        ),
        ("PNG with palette indices out of range", palette, EITHER),
        (
            "PNG header of impossible depth",
            [PNG_SIGNATURE.to_vec(), png_header(28, 28, 7)].concat(),
            INVALID,
        ),
    ]
}

fn others() -> Vec<Row> {
    let jpeg = pictures::jpeg(200, 200, 5);
    let encoded = |format| {
        let picture = image::load_from_memory(&pictures::noise(64, 64, 8))
            .map(|p| p.to_rgb8())
            .unwrap_or_default();
        pictures::encode(&DynamicImage::ImageRgb8(picture), format)
    };
    let (gif, webp, bmp) = (
        encoded(ImageFormat::Gif),
        encoded(ImageFormat::WebP),
        encoded(ImageFormat::Bmp),
    );
    let patched = |bytes: &[u8], at: usize, with: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    vec![
        ("JPEG of two markers", vec![0xFF, 0xD8, 0xFF, 0xD9], INVALID),
        ("JPEG cut in half", jpeg[..jpeg.len() / 2].to_vec(), INVALID),
        ("JPEG cut in its header", jpeg[..30].to_vec(), INVALID),
        ("JPEG of 65,535 × 65,535", pictures::lying_jpeg(), TOO_LARGE),
        (
            "JPEG followed by garbage",
            [jpeg.clone(), vec![0x55; 1 << 20]].concat(),
            FINE,
        ),
        ("JPEG with a broken EXIF block", broken_exif(&jpeg), FINE),
        (
            "GIF of 65,535 × 65,535",
            patched(&gif, 6, &[0xFF; 4]),
            TOO_LARGE,
        ),
        (
            "GIF without an image",
            [b"GIF89a\x10\0\x10\0\0\0\0;".to_vec()].concat(),
            INVALID,
        ),
        (
            "GIF cut within its data",
            gif[..gif.len() / 2].to_vec(),
            EITHER,
        ),
        (
            "WebP whose size lies",
            patched(&webp, 4, &[0xFF; 4]),
            EITHER,
        ),
        (
            "WebP cut within its data",
            webp[..webp.len() / 2].to_vec(),
            INVALID,
        ),
        (
            "BMP of impossible height",
            patched(&bmp, 22, &[0, 0, 0, 0x80]),
            &[(422, "invalid_image"), (422, "image_too_large")],
        ),
        (
            "BMP of really big size",
            patched(&bmp, 18, &[0xFF, 0xFF, 0xFF, 0x7F]),
            TOO_LARGE,
        ),
        (
            "BMP of impossible depth",
            patched(&bmp, 28, &[13, 0]),
            INVALID,
        ),
        (
            "BMP cut within its data",
            bmp[..bmp.len() / 2].to_vec(),
            EITHER,
        ),
    ]
}

fn broken_exif(jpeg: &[u8]) -> Vec<u8> {
    let segment = b"Exif\0\0II*\0\x08\0\0\0\xFF\xFFthe directory says it has 65,535 entries";
    let length = u16::try_from(segment.len() + 2)
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, segment, &jpeg[2..]].concat()
}

fn odd_but_valid() -> Vec<Row> {
    let png = |picture: DynamicImage| pictures::encode(&picture, ImageFormat::Png);
    let gray = image::load_from_memory(&pictures::noise(33, 57, 4)).unwrap_or_default();
    vec![
        ("1 × 1, black", png(DynamicImage::new_luma8(1, 1)), FINE),
        (
            "1 × 1, white",
            png(DynamicImage::ImageLuma8(image::GrayImage::from_pixel(
                1,
                1,
                image::Luma([255]),
            ))),
            FINE,
        ),
        ("all black", png(DynamicImage::new_luma8(28, 28)), FINE),
        (
            "all white",
            png(DynamicImage::ImageLuma8(image::GrayImage::from_pixel(
                50,
                50,
                image::Luma([255]),
            ))),
            FINE,
        ),
        (
            "fully transparent",
            png(DynamicImage::new_rgba8(40, 40)),
            FINE,
        ),
        (
            "16 bits per channel",
            png(DynamicImage::ImageRgb16(gray.to_rgb16())),
            FINE,
        ),
        (
            "grey with alpha",
            png(DynamicImage::ImageLumaA8(gray.to_luma_alpha8())),
            FINE,
        ),
        ("a strip", png(DynamicImage::new_rgb8(2000, 1)), FINE),
        (
            "PNG bytes with trailing garbage",
            [pictures::noise(28, 28, 77), vec![1; 999]].concat(),
            FINE,
        ),
    ]
}

/// Resident memory may grow by so much while hostile images are decoded: a few times the largest decoder allocation,
/// and far below what any of them would take if its claims were believed.
const MAY_GROW_KIB: u64 = 700 * 1024;

pub(super) async fn hostile_images_leave_memory_bounded(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let pids: Vec<u32> = match on.shape {
        Shape::Embedded => {
            on.with_gateways(|programs| programs.iter().map(|program| program.pid()).collect())
        }
        Shape::Fleet => {
            on.with_workers(|programs| programs.iter().map(|program| program.pid()).collect())
        }
    };
    let before: Vec<u64> = pids.iter().map(|pid| peak_memory_kib(*pid)).collect();
    for _ in 0..3 {
        for (_, bytes, _) in pngs().into_iter().chain(others()) {
            client
                .post_image_with("/predict?wait=30", bytes, &[("cache-control", "no-store")])
                .await?;
        }
    }
    for (pid, before) in pids.into_iter().zip(before) {
        let grown = peak_memory_kib(pid).saturating_sub(before);
        assert!(
            grown < MAY_GROW_KIB,
            "resident memory of {pid} peaked {grown} KiB higher"
        );
    }
    Ok(())
}
