//! What a device asks of a session: batches of few sizes, and to tell its own faults from those of an image. Pure functions.

use selvage_core::catalog::Device;

use super::ModelError;

/// The sizes of batches on a device that prepares for each: few, so that all can be warmed. A GPU computes two images in hardly more
/// time than one; where it is not sure that there is one, less is filled up in vain.
pub(super) fn batch_sizes(device: Device, max_batch: usize) -> Vec<usize> {
    let all = match device {
        Device::Cpu | Device::Auto => return Vec::new(),
        Device::Cuda(_) | Device::TensorRt(_) => &[1, 2, 4, 8, 16, 32, 64][..],
        Device::OpenVino => &[1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64],
    };
    let smaller = all.iter().copied().filter(|size| *size < max_batch);
    smaller.chain([max_batch]).collect()
}

/// Errors that are the device's and not an image's. After the first kind it can be used with less; after the second, never again by
/// the same session.
const OUT_OF_MEMORY: &[&str] = &[
    "out of memory",
    "Failed to allocate memory",
    "_STATUS_ALLOC_FAILED",
    "CL_MEM_OBJECT_ALLOCATION_FAILURE",
    "CL_OUT_OF_RESOURCES",
];
const LOST: &[&str] = &[
    "illegal memory access",
    "unspecified launch failure",
    "misaligned address",
    "uncorrectable ECC error",
    "an illegal instruction was encountered",
    "CUDA error: unknown error",
    "CL_DEVICE_NOT_AVAILABLE",
];

/// What an error of an inference means.
pub(super) fn failure(device: Device, error: String) -> ModelError {
    let says = |texts: &[&str]| texts.iter().any(|text| error.contains(text));
    if device == Device::Cpu {
        ModelError::Run(error)
    } else if says(OUT_OF_MEMORY) {
        ModelError::OutOfMemory(error)
    } else if says(LOST) {
        ModelError::DeviceLost(error)
    } else {
        ModelError::Run(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_few_sizes_up_to_the_largest() {
        assert!(batch_sizes(Device::Cpu, 32).is_empty());
        assert_eq!(batch_sizes(Device::Cuda(0), 32), [1, 2, 4, 8, 16, 32]);
        assert_eq!(batch_sizes(Device::TensorRt(0), 20), [1, 2, 4, 8, 16, 20]);
        assert_eq!(batch_sizes(Device::OpenVino, 8), [1, 2, 3, 4, 6, 8]);
        assert_eq!(batch_sizes(Device::Cuda(0), 1), [1]);
        assert_eq!(batch_sizes(Device::Cuda(0), 100)[6..], [64, 100]);
    }

    #[test]
    fn faults_of_the_device_are_told_from_those_of_an_image() {
        let of = |device, error: &str| failure(device, error.to_owned());
        let memory = "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 1073741824";
        assert!(matches!(
            of(Device::Cuda(0), memory),
            ModelError::OutOfMemory(_)
        ));
        let cudnn = "CUDNN failure 5: CUDNN_STATUS_ALLOC_FAILED ; GPU=0";
        assert!(matches!(
            of(Device::Cuda(0), cudnn),
            ModelError::OutOfMemory(_)
        ));
        let sticky = "CUDA failure 700: an illegal memory access was encountered ; GPU=0";
        assert!(matches!(
            of(Device::Cuda(0), sticky),
            ModelError::DeviceLost(_)
        ));
        let image = "Non-zero status code returned while running Gather node";
        assert!(matches!(of(Device::Cuda(0), image), ModelError::Run(_)));
        assert!(matches!(of(Device::Cpu, memory), ModelError::Run(_)));
    }
}
