//! From a [`Device`] to an execution provider of ONNX Runtime: whether it works here, and why not.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::ep::{self, ExecutionProvider as _};
use ort::memory::DeviceType;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::Tensor;
use selvage_core::catalog::Device;

use super::ModelError;
use super::libraries::{self, CUDA, TENSORRT};
use super::session::Runtime;

/// OpenVINO's plugin, as its wheel names it.
const OPENVINO_LIBRARY: &str = "libonnxruntime_providers_openvino_plugin.so";
/// What `auto` tries, the best first. TensorRT builds for minutes before it answers, so it must be asked for.
const BEST_FIRST: [Device; 2] = [Device::Cuda(0), Device::OpenVino];
/// The smallest model there is: `y = Relu(x)`, one number each, ONNX opset 13.
const PROBE: &[u8] = b"\x08\x08:3\n\x0c\n\x01x\x12\x01y\"\x04Relu\x12\x01pZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01b\
    \x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r";

/// ONNX Runtime takes each plugin once.
static PLUGINS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

impl Runtime {
    /// What `wanted` is here: itself if it works, and for `auto` the first that works, by the plugin that the settings name too.
    ///
    /// # Errors
    /// [`ModelError::Device`] with what is missing.
    pub fn find_device(&self, wanted: Device, plugin: Option<&Path>) -> Result<Device, ModelError> {
        let works = |device| {
            self.check_device(device, plugin)
                .map_err(|problem| ModelError::Device { device, problem })
        };
        if wanted != Device::Auto {
            return works(wanted).map(|()| wanted);
        }
        for device in BEST_FIRST {
            match works(device) {
                Ok(()) => {
                    tracing::info!(%device, "device chosen: the best that works");
                    return Ok(device);
                }
                Err(error) => tracing::info!("device not chosen: {error}"),
            }
        }
        tracing::info!(device = %Device::Cpu, "device chosen: no other works");
        Ok(Device::Cpu)
    }

    fn check_device(&self, device: Device, plugin: Option<&Path>) -> Result<(), String> {
        if let Some(plugin) = plugin {
            self.register(plugin)?;
        }
        match device {
            Device::Cpu | Device::Auto => return Ok(()),
            _ if self.plugin_device(device).is_some() => {}
            Device::Cuda(_) => self.check_nvidia::<ep::CUDA>(device, &[CUDA])?,
            Device::TensorRt(_) => self.check_nvidia::<ep::TensorRT>(device, &[CUDA, TENSORRT])?,
            Device::OpenVino => {
                if plugin.is_none() {
                    self.register(&self.openvino_library()?)?;
                }
                if self.plugin_device(device).is_none() {
                    return Err(self.no_openvino());
                }
            }
        }
        self.probe(device)
            .map_err(|error| explain(device, &error.to_string()))
    }

    /// Makes the execution providers of a plugin known.
    fn register(&self, plugin: &Path) -> Result<(), String> {
        let mut plugins = PLUGINS
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let plugin = std::path::absolute(plugin).unwrap_or_else(|_| plugin.to_owned());
        if plugins.contains(&plugin) {
            return Ok(());
        }
        if !plugin.is_file() {
            return Err(format!(
                "--ep-library / SELVAGE_EP_LIBRARY: {} does not exist",
                plugin.display()
            ));
        }
        let name = format!("plugin {}", plugins.len());
        self.environment
            .register_ep_library(name, &plugin)
            .map_err(|error| format!("{} cannot be loaded: {error}", plugin.display()))?;
        plugins.push(plugin);
        Ok(())
    }

    /// OpenVINO's plugin, where `scripts/onnxruntime` puts it or beside ONNX Runtime.
    fn openvino_library(&self) -> Result<PathBuf, String> {
        let folder = self.folder();
        let known = [folder.join("openvino"), folder.to_owned()];
        let mut known = known
            .map(|folder| folder.join(OPENVINO_LIBRARY))
            .into_iter();
        known.find(|path| path.is_file()).ok_or_else(|| {
            format!(
                "{OPENVINO_LIBRARY} is not in {}; `scripts/onnxruntime --device openvino` fetches it, or name it by \
                 SELVAGE_EP_LIBRARY (package onnxruntime-ep-openvino)",
                folder.display()
            )
        })
    }

    /// What a plugin offers of that kind; a GPU before the processor.
    fn plugin_device(&self, device: Device) -> Option<ort::device::Device<'_>> {
        let name = provider(device)?;
        let (mut gpus, mut others) = (Vec::new(), Vec::new());
        for found in self.offered_by(name) {
            match found.hardware_device().ty() {
                DeviceType::GPU => gpus.push(found),
                DeviceType::CPU => others.push(found),
                DeviceType::FPGA | DeviceType::NPU => {}
            }
        }
        match device {
            Device::Cuda(gpu) | Device::TensorRt(gpu) => gpus.into_iter().nth(gpu.into()),
            _ => gpus.into_iter().chain(others).next(),
        }
    }

    /// The devices of an execution provider.
    fn offered_by(&self, provider: &str) -> impl Iterator<Item = ort::device::Device<'_>> {
        let devices = self.environment.devices();
        devices.filter(move |found| found.ep().is_ok_and(|name| name == provider))
    }

    /// The plugin was loaded and offers nothing.
    fn no_openvino(&self) -> String {
        let processor = self.offered_by(CPU_PROVIDER).next();
        let maker = processor.and_then(|found| found.hardware_device().vendor().ok());
        format!(
            "OpenVINO's plugin finds no device: it takes Intel's processors and GPUs, and this processor is of {}",
            maker.unwrap_or("another maker")
        )
    }

    /// Whether ONNX Runtime has the provider built in, and the libraries of NVIDIA that it needs are here.
    fn check_nvidia<E: ep::ExecutionProvider>(
        &self,
        device: Device,
        needed: &[&'static [libraries::Needed]],
    ) -> Result<(), String> {
        if !E::is_available().unwrap_or_default() {
            return Err(format!(
                "{} is built without {}; `scripts/onnxruntime --device cuda` fetches one that has it (package onnxruntime-gpu)",
                self.library.display(),
                E::NAME
            ));
        }
        let load = |path: &Path| {
            let loaded = ort::util::preload_dylib(path.to_owned());
            // The linker's own words are the cause.
            let words = |error: &dyn Error| error.source().map(ToString::to_string);
            loaded.map_err(|error| words(&error).unwrap_or_else(|| error.to_string()))
        };
        let needed = needed.iter().copied().flatten();
        libraries::load_all(needed, self.folder(), load).map_err(|problem| {
            format!("{problem}; `scripts/onnxruntime --device cuda` fetches all that {device} needs but the driver")
        })
    }

    /// Runs the smallest model.
    fn probe(&self, device: Device) -> Result<(), ort::Error> {
        let mut builder = self.with_device(Session::builder(&self.environment)?, device)?;
        let mut session = builder.commit_from_memory(PROBE)?;
        session.run(ort::inputs![Tensor::from_array(([1], vec![1.0_f32]))?])?;
        Ok(())
    }

    /// Lets a session compute on that device; what the device cannot, the CPU does.
    pub(super) fn with_device(
        &self,
        builder: SessionBuilder,
        device: Device,
    ) -> Result<SessionBuilder, ort::Error> {
        let offered = match device {
            // Without a choice, ort lets ONNX Runtime choose, and that takes a plugin's device wherever there is one.
            Device::Cpu => self.offered_by(CPU_PROVIDER).next(),
            _ => self.plugin_device(device),
        };
        if let Some(offered) = offered {
            return Ok(builder.with_devices([offered], None)?);
        }
        let cuda = |gpu: u16| {
            ep::CUDA::default()
                .with_device_id(gpu.into())
                // The exhaustive search is made for each size of a batch, seconds each.
                .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
                .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
                .build()
                .error_on_failure()
        };
        let tensorrt = |gpu: u16| {
            let tensorrt = ep::TensorRT::default().with_device_id(gpu.into());
            tensorrt.build().error_on_failure()
        };
        Ok(match device {
            Device::Cuda(gpu) => builder.with_execution_providers([cuda(gpu)])?,
            Device::TensorRt(gpu) => {
                builder.with_execution_providers([tensorrt(gpu), cuda(gpu)])?
            }
            Device::Cpu | Device::OpenVino | Device::Auto => builder,
        })
    }
}

/// The CPU, as ONNX Runtime calls it.
const CPU_PROVIDER: &str = "CPUExecutionProvider";

/// The execution provider of a device, as ONNX Runtime calls it.
const fn provider(device: Device) -> Option<&'static str> {
    match device {
        Device::Cuda(_) => Some(ep::CUDA::NAME),
        Device::TensorRt(_) => Some(ep::TensorRT::NAME),
        Device::OpenVino => Some("OpenVINOExecutionProvider"),
        Device::Cpu | Device::Auto => None,
    }
}

/// CUDA's errors at a first run, in words that say what to do; others as they are.
fn explain(device: Device, error: &str) -> String {
    let says = |texts: &[&str]| texts.iter().any(|text| error.contains(text));
    if says(&["driver version is insufficient", "CUDA failure 35"]) {
        return "the NVIDIA driver is too old for CUDA 13, which needs version 580 or later (package nvidia-driver)".to_owned();
    }
    if says(&["no CUDA-capable device", "CUDA failure 100"]) {
        return "there is no NVIDIA GPU, or it is not given to this container".to_owned();
    }
    if says(&["invalid device ordinal", "CUDA failure 101"]) {
        return format!("there is no GPU of that number ({device}); the first is number 0");
    }
    if says(&["out of memory", "CUDA failure 2"]) {
        return "the GPU has no memory left; another program may use it".to_owned();
    }
    // ONNX Runtime puts its source's place and its own words before the cause.
    let cause = error.rsplit("with error: ").next().unwrap_or(error);
    cause.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_gpu_say_what_to_do() {
        for (error, words) in [
            (
                "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=0",
                "580",
            ),
            (
                "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1",
                "no NVIDIA GPU",
            ),
            (
                "CUDA failure 101: invalid device ordinal ; GPU=32",
                "cuda:7",
            ),
            ("CUDA failure 2: out of memory ; GPU=0", "no memory"),
            ("something else\nand its stack", "something else"),
            (
                "a.cc:2043 Get() Failed to load library b.so with error: b.so: undefined symbol: c",
                "b.so: undefined symbol: c",
            ),
        ] {
            let explained = explain(Device::Cuda(7), error);
            assert!(
                explained.contains(words) && !explained.contains('\n'),
                "{explained}"
            );
        }
    }
}
