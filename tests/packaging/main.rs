//! What is delivered beside the programs: units, and what they promise to systemd, and files to
//! be filled in.

#[cfg(test)]
mod examples;
#[cfg(test)]
mod units;
