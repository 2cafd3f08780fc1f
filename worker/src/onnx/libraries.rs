//! The shared libraries that a device needs beside ONNX Runtime, and who carries them.

use std::path::Path;

/// A library, and what carries it.
pub(super) type Needed = (&'static str, &'static str);

/// Of an NVIDIA GPU; the first of all, without which the others are useless.
const DRIVER: &str = "libcuda.so.1";
/// Whose absence, with an older one present, tells that CUDA is of the wrong version.
const CUDART: &str = "libcudart.so";
/// The version that the pinned ONNX Runtime is built for.
const CUDA_VERSION: u8 = 13;

/// What CUDA needs, in the order in which they need each other: the packages of PyPI.
pub(super) const CUDA: &[Needed] = &[
    ("libcudart.so.13", "nvidia-cuda-runtime"),
    ("libcublasLt.so.13", "nvidia-cublas"),
    ("libcublas.so.13", "nvidia-cublas"),
    ("libnvrtc.so.13", "nvidia-cuda-nvrtc"),
    ("libnvJitLink.so.13", "nvidia-nvjitlink"),
    ("libcurand.so.10", "nvidia-curand"),
    ("libcufft.so.12", "nvidia-cufft"),
    ("libcudnn.so.9", "nvidia-cudnn-cu13"),
];
/// What TensorRT needs beside that.
pub(super) const TENSORRT: &[Needed] = &[
    ("libnvinfer.so.10", "tensorrt-cu13-libs"),
    ("libnvonnxparser.so.10", "tensorrt-cu13-libs"),
];

/// Loads the driver and the libraries: those beside ONNX Runtime, in `folder`, or else the system's. `load` loads one, by its path or
/// by its name.
///
/// # Errors
/// A sentence on the first that is missing.
pub(super) fn load_all(
    needed: impl IntoIterator<Item = &'static Needed>,
    folder: &Path,
    load: impl Fn(&Path) -> Result<(), String>,
) -> Result<(), String> {
    load(Path::new(DRIVER)).map_err(|error| {
        format!(
            "the NVIDIA driver is missing ({error}); install it (package nvidia-driver), and in a container the NVIDIA Container \
             Toolkit (package nvidia-container-toolkit)"
        )
    })?;
    for (library, package) in needed {
        let beside = folder.join(library);
        let path = if beside.is_file() {
            &beside
        } else {
            Path::new(library)
        };
        load(path).map_err(|error| {
            let older = (1..CUDA_VERSION).rev();
            let mut older =
                older.filter(|version| load(Path::new(&format!("{CUDART}.{version}"))).is_ok());
            match older.next().filter(|_| library.starts_with(CUDART)) {
                Some(version) => format!(
                    "CUDA {version} is installed, and this ONNX Runtime needs CUDA {CUDA_VERSION}"
                ),
                None => format!(
                    "{library} cannot be loaded ({error}); the package {package} carries it"
                ),
            }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;

    use super::*;

    /// What is loaded, and what is said, on a machine with these libraries.
    fn on(machine: &[&str], folder: &Path) -> (Vec<PathBuf>, Result<(), String>) {
        let loaded = RefCell::new(Vec::new());
        let load = |path: &Path| {
            if path.is_file() || machine.iter().any(|library| path == Path::new(library)) {
                loaded.borrow_mut().push(path.to_owned());
                return Ok(());
            }
            Err(format!(
                "{}: cannot open shared object file",
                path.display()
            ))
        };
        let result = load_all(CUDA, folder, load);
        (loaded.into_inner(), result)
    }

    fn names() -> Vec<&'static str> {
        std::iter::once(DRIVER)
            .chain(CUDA.iter().map(|(library, _)| *library))
            .collect()
    }

    #[test]
    fn each_library_that_is_missing_is_named_with_its_package() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(on(&names(), folder.path()).1, Ok(()));
        for (at, (library, package)) in CUDA.iter().enumerate() {
            let mut machine = names();
            machine.remove(at + 1);
            let problem = on(&machine, folder.path()).1.unwrap_err();
            assert!(
                problem.contains(library) && problem.contains(package),
                "{problem}"
            );
        }
    }

    #[test]
    fn a_missing_driver_and_another_cuda_are_told_apart_from_a_missing_library() {
        let folder = tempfile::tempdir().unwrap();
        let problem = on(&names()[1..], folder.path()).1.unwrap_err();
        assert!(
            problem.contains("driver is missing") && problem.contains(DRIVER),
            "{problem}"
        );
        let problem = on(&[DRIVER, "libcudart.so.12"], folder.path())
            .1
            .unwrap_err();
        assert_eq!(
            problem,
            "CUDA 12 is installed, and this ONNX Runtime needs CUDA 13"
        );
        let without_cudnn: Vec<&str> = names()
            .into_iter()
            .filter(|name| !name.contains("cudnn"))
            .collect();
        let machine = [&without_cudnn[..], &["libcudart.so.12"]].concat();
        let problem = on(&machine, folder.path()).1.unwrap_err();
        assert!(problem.contains("libcudnn.so.9"), "{problem}");
    }

    #[test]
    fn libraries_beside_onnx_runtime_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join("libcudnn.so.9");
        std::fs::write(&beside, "").unwrap();
        let (loaded, result) = on(&names(), folder.path());
        assert!(result.is_ok() && loaded.contains(&beside), "{loaded:?}");
        assert!(
            !loaded.contains(&PathBuf::from("libcudnn.so.9")),
            "{loaded:?}"
        );
    }
}
