//! The eSwitch's own account: how many frames it ended, and how many it handed to software.

/// Of one NIC, since it was made (`/sys/kernel/debug/simnic/stats`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    pub frames: u64,
    pub hardware: u64,
    pub software: u64,
}

impl Counters {
    #[track_caller]
    pub fn of(nic: u8) -> Self {
        let text = std::fs::read_to_string("/sys/kernel/debug/simnic/stats").expect("simnic's stats");
        let mine = format!("nic {nic} ");
        let line =
            text.lines().find(|line| line.starts_with(&mine)).unwrap_or_else(|| panic!("{mine}in {text}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = |key: &str| {
            let at = words.iter().position(|word| *word == key).unwrap_or_else(|| panic!("{key} in {line}"));
            words[at + 1].parse().expect("a number")
        };
        Self { frames: value("frames"), hardware: value("ended_in_hardware"), software: value("to_software") }
    }

    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            frames: self.frames - earlier.frames,
            hardware: self.hardware - earlier.hardware,
            software: self.software - earlier.software,
        }
    }
}

/// Connections that the eSwitch of a NIC carries by itself and that have this address at one end, in simnic's words.
#[track_caller]
pub fn carried(nic: u8, address: &str) -> Vec<String> {
    let text = std::fs::read_to_string("/sys/kernel/debug/simnic/conns").expect("simnic's connections");
    let mine = format!("nic {nic} ");
    text.lines()
        .filter(|line| line.starts_with(&mine) && line.split(' ').any(|word| word == address))
        .map(str::to_owned)
        .collect()
}
