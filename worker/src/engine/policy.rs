//! How many threads of a pool do what, by the device that the model runs on: pure.

use selvage_core::catalog::Device;

use super::batch::Role;

/// The threads of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Threads with a session each.
    pub sessions: usize,
    /// Threads that only decode. If there are none, those with a session decode too.
    pub decoders: usize,
}

impl Policy {
    /// The CPU has `on_cpu` sessions. `wanted` is the number of sessions that the settings name, for any device.
    #[must_use]
    pub fn of(device: Device, wanted: Option<usize>, on_cpu: usize, cores: usize) -> Self {
        let with_decoders = |sessions| Self {
            sessions: wanted.unwrap_or(sessions),
            decoders: cores,
        };
        match device {
            Device::Cpu | Device::Auto => Self {
                sessions: on_cpu,
                decoders: 0,
            },
            // While one session's batch is computed, the other's is filled and copied.
            Device::Cuda(_) | Device::TensorRt(_) => with_decoders(2),
            // One inference uses all cores.
            Device::OpenVino => with_decoders(1),
        }
    }

    /// How many threads there are.
    #[must_use]
    pub const fn threads(self) -> usize {
        self.sessions + self.decoders
    }

    /// What the thread of that number is for; those with a session come first.
    #[must_use]
    pub const fn role(self, number: usize) -> Role {
        if self.decoders == 0 {
            Role::Both
        } else if number < self.sessions {
            Role::Infer
        } else {
            Role::Decode
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(device: Device, wanted: Option<usize>) -> (usize, usize) {
        let policy = Policy::of(device, wanted, 7, 16);
        (policy.sessions, policy.decoders)
    }

    #[test]
    fn only_another_device_than_the_cpu_has_threads_that_only_decode() {
        assert_eq!(numbers(Device::Cpu, None), (7, 0));
        for gpu in [Device::Cuda(1), Device::TensorRt(0)] {
            assert_eq!(numbers(gpu, None), (2, 16));
            assert_eq!(numbers(gpu, Some(1)), (1, 16));
        }
        assert_eq!(numbers(Device::OpenVino, None), (1, 16));
        assert_eq!(numbers(Device::OpenVino, Some(3)), (3, 16));
    }

    #[test]
    fn each_thread_has_a_role() {
        let roles = |policy: Policy| -> Vec<Role> {
            (0..policy.threads())
                .map(|number| policy.role(number))
                .collect()
        };
        let mut policy = Policy {
            sessions: 2,
            decoders: 0,
        };
        assert_eq!(roles(policy), [Role::Both; 2]);
        policy.decoders = 1;
        assert_eq!(roles(policy), [Role::Infer, Role::Infer, Role::Decode]);
    }
}
