//! What is delivered beside the programs: units, and what they promise to systemd.

#[cfg(test)]
mod units;
