//! What a model is to run on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A device, as settings name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The processor, by ONNX Runtime itself.
    #[default]
    Cpu,
    /// An NVIDIA GPU by its number, by CUDA.
    Cuda(u16),
    /// An NVIDIA GPU by its number, by TensorRT; CUDA runs what TensorRT cannot.
    TensorRt(u16),
    /// An Intel GPU if there is one, otherwise the processor, by OpenVINO.
    OpenVino,
    /// The best that works.
    Auto,
}

/// A device that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a device: use cpu, cuda or tensorrt (of several GPUs, cuda:N or tensorrt:N), openvino, or auto"
)]
pub struct UnknownDevice(String);

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(text.to_owned());
        let (name, number) = match text.split_once(':') {
            None => (text, None),
            Some((name, number)) => (name, Some(number.parse().map_err(|_| unknown())?)),
        };
        match (name, number) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", gpu) => Ok(Self::Cuda(gpu.unwrap_or_default())),
            ("tensorrt", gpu) => Ok(Self::TensorRt(gpu.unwrap_or_default())),
            ("openvino", None) => Ok(Self::OpenVino),
            ("auto", None) => Ok(Self::Auto),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(gpu) => write!(f, "cuda:{gpu}"),
            Self::TensorRt(gpu) => write!(f, "tensorrt:{gpu}"),
            Self::OpenVino => f.write_str("openvino"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = UnknownDevice;

    fn try_from(text: String) -> Result<Self, UnknownDevice> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_read_as_it_is_written() {
        for (text, device, written) in [
            ("cpu", Device::Cpu, "cpu"),
            ("cuda", Device::Cuda(0), "cuda:0"),
            ("cuda:3", Device::Cuda(3), "cuda:3"),
            ("tensorrt", Device::TensorRt(0), "tensorrt:0"),
            ("tensorrt:1", Device::TensorRt(1), "tensorrt:1"),
            ("openvino", Device::OpenVino, "openvino"),
            ("auto", Device::Auto, "auto"),
        ] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string(), written);
            assert_eq!(written.parse(), Ok(device));
        }
    }

    #[test]
    fn another_name_or_number_is_refused() {
        for text in [
            "",
            "gpu",
            "CUDA",
            "cuda:",
            "cuda:x",
            "cuda:-1",
            "cpu:0",
            "openvino:GPU",
        ] {
            let error = text.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
