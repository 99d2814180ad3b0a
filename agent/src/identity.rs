//! Who this machine is: its key, made before it first asks to join, and what joining gave it.
//!
//! ```text
//!   <data-dir>/node.key        the key, from before the first attempt at joining
//!   <data-dir>/identity.json   cluster, uid, name, certificates, addresses; there once joined
//!   <data-dir>/identity.next   the same for another coordinator, not in force yet
//! ```
//!
//! The key stays the same for life; the certificate is renewed. A machine that is taken to another
//! coordinator has the next identity written beside the present one, and becomes it in one step: at
//! any moment one of the two is whole and in force. It remembers who it was before, because what it
//! started then is still its own.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use everynode_agent_core::Marks;
use everynode_agent_core::ledger::formers;
use everynode_model::{ClusterId, NodeName, NodeUid};
use everynode_transport::{ClientIdentity, Trust, Validity};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::data_dir::{read_bounded, remove_durably, rename_durably, write_durably};

/// Keys and certificates of a few CAs are some kilobytes.
const MAX_FILE: u64 = 1024 * 1024;
/// The format of `identity.json`.
const FORMAT: u32 = 1;

/// A machine's place in a cluster.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Which node it is there.
    pub node: NodeUid,
    /// Its name there.
    pub name: NodeName,
    /// Its certificate, with what leads to a CA, and its key.
    pub client: ClientIdentity,
    /// The CAs whose coordinators are believed.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Where coordinators are, `host:port`.
    pub addresses: Vec<String>,
    /// Who it was before, oldest first.
    pub formers: Vec<Marks>,
}

/// Keeps an identity through renewals and successions.
pub trait IdentityStore: Send + Sync + 'static {
    /// Writes one whose certificate was renewed durably in the place of the former, which is still
    /// there on an error.
    fn save(&self, identity: Identity) -> BoxFuture<'static, Result<(), IdentityError>>;

    /// Becomes the next one, in one durable step, if there is one that follows.
    fn succeed(&self) -> BoxFuture<'static, Result<Identity, IdentityError>>;
}

/// Where an identity is kept.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    directory: PathBuf,
    /// One write at a time, with what is looked at before it.
    writing: Arc<Mutex<()>>,
}

/// Why there is no identity to work with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is damaged.
    #[error(
        "{path} is damaged ({why}): restore it, or empty the data directory and join again \
         with a token made by `everynode token create --node-name NAME --replace`"
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// In what way.
        why: String,
    },
    /// A newer agent wrote it.
    #[error("{path} has format {found}, written by a newer agent: run that one again")]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// What is there is another identity's.
    #[error("{path} is another identity's by now: this one is not written over it")]
    Superseded {
        /// Which.
        path: PathBuf,
    },
    /// There is no next identity, or it does not follow the present one.
    #[error("{path} is not there, or does not follow the present identity: rejoin again")]
    NoSuccessor {
        /// Which.
        path: PathBuf,
    },
    /// No key could be made.
    #[error("cannot make a key: {0}")]
    Key(#[source] rcgen::Error),
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    cluster: String,
    node: String,
    name: String,
    /// DER in base64, as the rest.
    chain: Vec<String>,
    authorities: Vec<String>,
    addresses: Vec<String>,
    /// Clusters and nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    formers: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl Identity {
    /// Which coordinators it believes.
    pub fn trust(&self) -> Trust {
        Trust::Authorities(self.authorities.clone())
    }

    /// What everything that it starts bears.
    pub const fn marks(&self) -> Marks {
        Marks { cluster: self.cluster, node: self.node }
    }

    /// What everything that it ever started bears; first, what it starts now.
    pub fn ever(&self) -> Vec<Marks> {
        std::iter::once(self.marks()).chain(self.formers.iter().copied()).collect()
    }

    /// Every cluster that it is or was of.
    pub fn clusters(&self) -> BTreeSet<ClusterId> {
        self.formers.iter().map(|former| former.cluster).chain([self.cluster]).collect()
    }

    /// The same machine as this one, in the hands of another coordinator.
    #[must_use]
    pub fn following(self, former: &Self) -> Self {
        Self { formers: formers(&former.formers, former.marks(), self.marks()), ..self }
    }

    /// When its certificate is valid.
    pub fn validity(&self) -> Option<Validity> {
        self.client.chain.first().and_then(|leaf| Validity::of_der(leaf))
    }
}

impl IdentityStore for IdentityFiles {
    fn save(&self, identity: Identity) -> BoxFuture<'static, Result<(), IdentityError>> {
        let (files, path) = (self.clone(), self.path());
        let saved = tokio::task::spawn_blocking(move || files.save(&identity));
        let failed = |error| IdentityError::Io { path, source: io::Error::other(error) };
        async move { saved.await.map_err(failed)? }.boxed()
    }

    fn succeed(&self) -> BoxFuture<'static, Result<Identity, IdentityError>> {
        let (files, path) = (self.clone(), self.path());
        let succeeded = tokio::task::spawn_blocking(move || files.succeed());
        let failed = |error| IdentityError::Io { path, source: io::Error::other(error) };
        async move { succeeded.await.map_err(failed)? }.boxed()
    }
}

impl IdentityFiles {
    /// Those in `directory`, which is there and locked.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), writing: Arc::default() }
    }

    /// The machine's key; made and written down where there is none yet, so that an answer to
    /// joining that was lost can be asked for again with the same one.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub fn key(&self) -> Result<KeyPair, IdentityError> {
        let path = self.key_path();
        if let Some(pem) = self.read(&path)? {
            let damaged = |why: String| IdentityError::Damaged { path: path.clone(), why };
            let pem = std::str::from_utf8(&pem).map_err(|error| damaged(error.to_string()))?;
            return KeyPair::from_pem(pem).map_err(|error| damaged(error.to_string()));
        }
        // ECDSA on P-256: what rcgen makes, and what every TLS library takes.
        let key = KeyPair::generate().map_err(IdentityError::Key)?;
        self.write(&path, key.serialize_pem().as_bytes())?;
        Ok(key)
    }

    /// The identity, if this machine has joined.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn load(&self) -> Result<Option<Identity>, IdentityError> {
        self.load_from(self.path())
    }

    fn load_from(&self, path: PathBuf) -> Result<Option<Identity>, IdentityError> {
        let Some(content) = self.read(&path)? else { return Ok(None) };
        let damaged = |why: &str| IdentityError::Damaged { path: path.clone(), why: why.into() };
        let head: Head =
            serde_json::from_slice(&content).map_err(|error| damaged(&error.to_string()))?;
        if head.format > FORMAT {
            return Err(IdentityError::Newer { path, found: head.format });
        }
        let record: Record =
            serde_json::from_slice(&content).map_err(|error| damaged(&error.to_string()))?;
        if self.read(&self.key_path())?.is_none() {
            return Err(IdentityError::Damaged { path: self.key_path(), why: "missing".into() });
        }
        let key = PrivateKeyDer::try_from(self.key()?.serialize_der());
        let key = key.map_err(damaged)?;
        record.into_identity(key).map(Some).ok_or_else(|| damaged("a field has no valid value"))
    }

    /// Writes an identity, of which the key is there already. Never over another one.
    ///
    /// # Errors
    /// When it can't be written, or another one is there.
    pub fn save(&self, identity: &Identity) -> Result<(), IdentityError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(Some(present)) = self.load()
            && present.marks() != identity.marks()
        {
            return Err(IdentityError::Superseded { path: self.path() });
        }
        self.write(&self.path(), &json(identity))
    }

    /// Writes who this machine is to be next; nothing comes of it before [`Self::succeed`].
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save_next(&self, identity: &Identity) -> Result<(), IdentityError> {
        self.write(&self.next_path(), &json(identity))
    }

    /// Becomes whom [`Self::save_next`] has written, if that follows who this machine is now.
    ///
    /// # Errors
    /// When it does not, or can't be read or put in the other's place; all is as before then.
    pub fn succeed(&self) -> Result<Identity, IdentityError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.next_path();
        let (present, next) = (self.load()?, self.load_from(path.clone())?);
        let (Some(present), Some(next)) = (present, next) else {
            return Err(IdentityError::NoSuccessor { path });
        };
        if next.formers != formers(&present.formers, present.marks(), next.marks()) {
            return Err(IdentityError::NoSuccessor { path });
        }
        let moved = rename_durably(&path, &self.path());
        moved.map_err(|source| IdentityError::Io { path, source })?;
        Ok(next)
    }

    /// Forgets who this machine was; the certificate before the key, so that no half is left that
    /// looks whole.
    ///
    /// # Errors
    /// When a file can't be removed.
    pub fn wipe(&self) -> Result<(), IdentityError> {
        for path in [self.next_path(), self.path(), self.key_path()] {
            remove_durably(&path).map_err(|source| IdentityError::Io { path, source })?;
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.directory.join("identity.json")
    }

    fn next_path(&self) -> PathBuf {
        self.directory.join("identity.next")
    }

    fn key_path(&self) -> PathBuf {
        self.directory.join("node.key")
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
        read_bounded(path, MAX_FILE)
            .map_err(|source| IdentityError::Io { path: path.to_owned(), source })
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), IdentityError> {
        write_durably(path, content)
            .map_err(|source| IdentityError::Io { path: path.to_owned(), source })
    }
}

impl Record {
    fn from_identity(identity: &Identity) -> Self {
        let text = |ders: &[CertificateDer<'_>]| -> Vec<String> {
            ders.iter().map(|der| BASE64.encode(der)).collect()
        };
        Self {
            format: FORMAT,
            cluster: identity.cluster.to_string(),
            node: identity.node.to_string(),
            name: identity.name.to_string(),
            chain: text(&identity.client.chain),
            authorities: text(&identity.authorities),
            addresses: identity.addresses.clone(),
            formers: identity.formers.iter().map(pair).collect(),
        }
    }

    fn into_identity(self, key: PrivateKeyDer<'static>) -> Option<Identity> {
        let ders = |texts: &[String]| -> Option<Vec<CertificateDer<'static>>> {
            let der = |text: &String| BASE64.decode(text).ok().map(CertificateDer::from);
            texts.iter().map(der).collect()
        };
        let marks = |(cluster, node): &(String, String)| {
            Some(Marks { cluster: cluster.parse().ok()?, node: node.parse().ok()? })
        };
        let chain = ders(&self.chain).filter(|chain| !chain.is_empty())?;
        Some(Identity {
            cluster: self.cluster.parse().ok()?,
            node: self.node.parse().ok()?,
            name: NodeName::new(&self.name).ok()?,
            client: ClientIdentity { chain, key },
            authorities: ders(&self.authorities)?,
            addresses: self.addresses,
            formers: self.formers.iter().map(marks).collect::<Option<_>>()?,
        })
    }
}

fn pair(marks: &Marks) -> (String, String) {
    (marks.cluster.to_string(), marks.node.to_string())
}

fn json(identity: &Identity) -> Vec<u8> {
    // Serialising strings can't fail.
    serde_json::to_vec_pretty(&Record::from_identity(identity)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(files: &IdentityFiles) -> Identity {
        let id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
        let key = PrivateKeyDer::try_from(files.key().unwrap().serialize_der()).unwrap();
        Identity {
            cluster: id.parse().unwrap(),
            node: id.parse().unwrap(),
            name: NodeName::new("n").unwrap(),
            client: ClientIdentity { chain: vec![vec![1, 2].into()], key },
            authorities: vec![vec![3].into()],
            addresses: vec!["a:1".into()],
            formers: Vec::new(),
        }
    }

    #[test]
    fn the_key_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityFiles::new(directory.path());
        let first = files.key().unwrap().serialize_der();
        assert_eq!(files.key().unwrap().serialize_der(), first);
        files.wipe().unwrap();
        assert_ne!(files.key().unwrap().serialize_der(), first);
    }

    #[test]
    fn an_identity_is_read_as_written_until_it_is_wiped() {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityFiles::new(directory.path());
        assert!(files.load().unwrap().is_none());
        let saved = identity(&files);
        files.save(&saved).unwrap();
        let loaded = files.load().unwrap().unwrap();
        assert_eq!((loaded.cluster, loaded.node), (saved.cluster, saved.node));
        assert_eq!(loaded.client.key, saved.client.key);
        assert_eq!(loaded.client.chain, saved.client.chain);
        assert_eq!((loaded.authorities, loaded.addresses), (saved.authorities, saved.addresses));
        files.wipe().unwrap();
        assert!(files.load().unwrap().is_none());
    }

    #[test]
    fn one_identity_follows_another_in_one_step_and_is_not_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityFiles::new(directory.path());
        let first = identity(&files);
        files.save(&first).unwrap();
        assert!(matches!(files.succeed(), Err(IdentityError::NoSuccessor { .. })));
        let to = |node: u128| {
            let node = NodeUid::new(uuid::Uuid::from_u128(node));
            Identity { node, ..identity(&files) }
        };
        // Written, and not in force: whoever starts now is still the first.
        let second = to(2).following(&first);
        files.save_next(&second).unwrap();
        assert_eq!(files.load().unwrap().unwrap().node, first.node);
        assert_eq!(files.succeed().unwrap().node, second.node);
        let loaded = files.load().unwrap().unwrap();
        assert_eq!((loaded.node, &*loaded.formers), (second.node, &[first.marks()][..]));
        // A renewal of the first that comes late.
        assert!(matches!(files.save(&first), Err(IdentityError::Superseded { .. })));
        // One that was meant to follow the first.
        files.save_next(&to(3).following(&first)).unwrap();
        assert!(matches!(files.succeed(), Err(IdentityError::NoSuccessor { .. })));
        assert_eq!(files.load().unwrap().unwrap().node, second.node);
        files.wipe().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn damage_and_the_future_have_names() {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityFiles::new(directory.path());
        files.save(&identity(&files)).unwrap();
        let path = directory.path().join("identity.json");
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, whole.replace("\"format\": 1", "\"format\": 2")).unwrap();
        assert!(matches!(files.load(), Err(IdentityError::Newer { found: 2, .. })));
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(files.load(), Err(IdentityError::Damaged { .. })));
        std::fs::write(&path, whole).unwrap();
        std::fs::remove_file(directory.path().join("node.key")).unwrap();
        assert!(matches!(files.load(), Err(IdentityError::Damaged { .. })));
        assert!(!directory.path().join("node.key").exists(), "no new key for an old certificate");
    }
}
