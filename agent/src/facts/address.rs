//! The address by which the pods of this machine are reached, as it changes: a machine may get its
//! first one long after its agent has started, and another one with each lease.

use tokio::sync::watch;

use super::EVERY;

/// This machine's address. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Address(watch::Receiver<Option<String>>);

impl Address {
    /// One that stays.
    pub fn fixed(address: Option<&str>) -> Self {
        Self(watch::channel(address.map(str::to_owned)).1)
    }

    /// The first of the machine's, looked at for as long as anybody has a clone of this; not where the
    /// rest is measured, which a disk that hangs keeps from going on.
    pub fn watched(first: Option<&str>) -> Self {
        let (said, address) = watch::channel(first.map(str::to_owned));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = said.closed() => return,
                    () = tokio::time::sleep(EVERY) => {}
                }
                let Ok(all) = tokio::task::spawn_blocking(super::addresses).await else { return };
                let now = choose(said.borrow().as_deref(), &all);
                let news = |known: &mut Option<String>| {
                    let changed = *known != now;
                    known.clone_from(&now);
                    changed
                };
                if said.send_if_modified(news) {
                    tracing::info!(address = now.as_deref(), "pods have another address now");
                }
            }
        });
        Self(address)
    }

    /// What it is now, if there is one.
    pub fn now(&self) -> Option<String> {
        self.0.borrow().clone()
    }
}

/// The one that is known, as long as it is there; else the first.
fn choose(known: Option<&str>, all: &[String]) -> Option<String> {
    let stays = known.filter(|known| all.iter().any(|one| one == known));
    stays.or_else(|| all.first().map(String::as_str)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_as_long_as_the_machine_has_it() {
        let all = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let chosen = |known, there: &[&str]| choose(known, &all(there));
        assert_eq!(chosen(Some("10.0.0.2"), &["10.0.0.1", "10.0.0.2"]), Some("10.0.0.2".into()));
        assert_eq!(chosen(Some("10.0.0.2"), &["10.0.0.1"]), Some("10.0.0.1".into()));
        assert_eq!(chosen(None, &["10.0.0.1"]), Some("10.0.0.1".into()));
        assert_eq!(chosen(Some("10.0.0.2"), &[]), None);
        assert_eq!(Address::fixed(Some("::1")).now(), Some("::1".into()));
    }
}
