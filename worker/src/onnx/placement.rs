//! Which of a model's nodes run on its device, and which on the CPU.
//!
//! `ort` has no call for it, but ONNX Runtime logs it when it opens a session. What a device compiles is one node in that log, so
//! the share is that of the nodes which the CPU alone would run.

use std::collections::BTreeMap;
use std::sync::Arc;

use ort::logging::{LogLevel, LoggerFunction};
use parking_lot::Mutex;
use selvage_core::catalog::Device;
use selvage_core::registry::Placement;

/// The function of ONNX Runtime whose log lines are read.
const SOURCE: &str = "VerifyEachNodeIsAssignedToAnEp";
/// The CPU, as ONNX Runtime calls it.
const CPU: &str = "CPUExecutionProvider";

/// The nodes of a session, as its log lists them.
#[derive(Debug, Default)]
pub(super) struct NodeCounts {
    on_device: usize,
    pub(super) on_cpu: usize,
    /// Not listed where there are no others.
    cpu_operators: BTreeMap<String, usize>,
    lists_cpu: bool,
}

impl NodeCounts {
    /// Reads one line.
    fn note(&mut self, line: &str) {
        let line = line.trim();
        let Some((_, placed)) = line.split_once(" placed on [") else {
            if let Some((operator, _)) = line.split_once(" (").filter(|_| self.lists_cpu) {
                *self.cpu_operators.entry(operator.to_owned()).or_default() += 1;
            }
            return;
        };
        let provider = placed.split(']').next().unwrap_or_default();
        let nodes = placed
            .rsplit(' ')
            .next()
            .and_then(|nodes| nodes.parse().ok());
        self.lists_cpu = provider == CPU;
        *if self.lists_cpu {
            &mut self.on_cpu
        } else {
            &mut self.on_device
        } += nodes.unwrap_or(0_usize);
    }

    /// The placement. `alone` counts the nodes that there are where the CPU runs them all.
    pub(super) fn placement<E>(
        &self,
        device: Device,
        alone: impl FnOnce() -> Result<usize, E>,
    ) -> Result<Placement, E> {
        let device_share = match (self.on_device, self.on_cpu) {
            (_, 0) => 1.0,
            (0, _) => 0.0,
            (_, on_cpu) => {
                let all = alone()?.max(on_cpu);
                #[expect(clippy::cast_precision_loss, reason = "a number of nodes")]
                let share = 1.0 - on_cpu as f64 / all as f64;
                share
            }
        };
        Ok(Placement {
            device,
            device_share,
            cpu_operators: self.cpu_operators.clone(),
        })
    }
}

/// The operators, for people: `Resize (2), TopK (1)`.
pub(super) fn list(operators: &BTreeMap<String, usize>) -> String {
    let named = operators
        .iter()
        .map(|(name, nodes)| format!("{name} ({nodes})"));
    named.collect::<Vec<_>>().join(", ")
}

/// A session's logger that counts its nodes, and passes errors on.
pub(super) fn counting(counts: Arc<Mutex<NodeCounts>>) -> LoggerFunction {
    Arc::new(move |level, _, _, source, line| {
        if source.contains(SOURCE) {
            counts.lock().note(line);
        }
        if matches!(level, LogLevel::Error | LogLevel::Fatal) {
            tracing::error!("ONNX Runtime: {line}");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(lines: &[&str]) -> NodeCounts {
        let mut counts = NodeCounts::default();
        lines.iter().for_each(|line| counts.note(line));
        counts
    }

    fn placement(counts: &NodeCounts, alone: Option<usize>) -> Placement {
        counts
            .placement(Device::OpenVino, || alone.ok_or(()))
            .unwrap()
    }

    #[test]
    fn a_model_that_the_device_runs_alone_is_wholly_there() {
        let lines = [
            "Node placements",
            " All nodes placed on [OpenVINOExecutionProvider]. Number of nodes: 1",
        ];
        assert_eq!(
            placement(&counts(&lines), None),
            Placement::whole(Device::OpenVino)
        );
    }

    #[test]
    fn a_model_that_the_device_takes_nothing_of_is_not_there() {
        let counts = counts(&[" All nodes placed on [CPUExecutionProvider]. Number of nodes: 7"]);
        assert_eq!(
            (counts.on_cpu, placement(&counts, None).device_share),
            (7, 0.0)
        );
    }

    #[test]
    fn what_the_cpu_runs_is_counted_by_operator() {
        let counts = counts(&[
            " Node(s) placed on [CUDAExecutionProvider]. Number of nodes: 2",
            "  Conv (/conv1/Conv)",
            "  Gemm (/fc/Gemm (transposed))",
            " Node(s) placed on [CPUExecutionProvider]. Number of nodes: 3",
            "  TopK ()",
            "  Resize (/up (1)/Resize)",
            "  TopK (second)",
            "Some nodes were not assigned to the preferred execution providers",
        ]);
        let found = placement(&counts, Some(12));
        assert!((found.device_share - 0.75).abs() < 1e-9, "{found:?}");
        assert_eq!(list(&found.cpu_operators), "Resize (1), TopK (2)");
    }
}
