//! `admin.conf`: what the first operator needs, in kubeconfig's format.
//!
//! The file is a key to everything: it is readable for its owner only, and appears whole or not at
//! all.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use everynode_model::{ClusterId, WallTime};
use everynode_transport::identity::certificates_from_pem;
use everynode_transport::{Peer, Role, SERVER_NAME, Validity, is_plausible};

use rustls_pki_types::CertificateDer;

use crate::pki::{Issued, Pki, PkiError};

/// The file's name in the data directory.
pub const FILE: &str = "admin.conf";

/// The user that the file is for.
const USER: &str = "admin";

/// In seconds.
const DAY: i64 = 24 * 60 * 60;

/// How long before the end of its certificate the operator is told: time enough to be read.
const SOON: i64 = 30 * DAY;

/// Why the file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No certificate could be made.
    #[error("no certificate for {USER} could be made")]
    Pki(#[from] PkiError),
    /// The disk did not take it.
    #[error("{path} could not be written: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Writes the file into `directory` with a new certificate, over one that is there. `server` is
/// `host:port`. Returns its path.
///
/// # Errors
/// When no certificate can be made or the file can't be written; what was there stays then.
pub fn write(
    directory: &Path,
    pki: &Pki,
    cluster: ClusterId,
    server: &str,
) -> Result<PathBuf, AdminError> {
    let text = text(pki, &pki.issue_user(cluster, USER, Role::Admin)?, server);
    let path = directory.join(FILE);
    match replace(&path, text.as_bytes()) {
        Ok(()) => Ok(path),
        Err(source) => Err(AdminError::Io { path, source }),
    }
}

/// Writes the file unless there is one.
///
/// # Errors
/// As [`write()`].
pub fn write_if_absent(
    directory: &Path,
    pki: &Pki,
    cluster: ClusterId,
    server: &str,
) -> Result<(), AdminError> {
    if directory.join(FILE).exists() {
        return Ok(());
    }
    write(directory, pki, cluster, server).map(|_path| ())
}

/// The server in a file that is there, `host:port`; so that a new certificate does not change it.
pub fn server_in(directory: &Path) -> Option<String> {
    let text = fs::read_to_string(directory.join(FILE)).ok()?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("server: "))?;
    line.trim_matches('"').strip_prefix("https://").map(str::to_owned)
}

/// The cluster of a file that is there, by the certificate in it.
pub fn cluster_in(directory: &Path) -> Option<ClusterId> {
    Some(Peer::from_certificate(chain_in(directory)?.first()?).ok()?.0.cluster())
}

/// When the certificate in a file that is there is valid.
pub fn validity_in(directory: &Path) -> Option<Validity> {
    Validity::of_der(chain_in(directory)?.first()?)
}

/// What the operator is to be told of a certificate that ends soon, or has ended.
pub fn warning(validity: Validity, now: WallTime) -> Option<String> {
    let left = validity.not_after - now.unix_millis.div_euclid(1000);
    let what = match left {
        _ if !is_plausible(now) => return None,
        _ if !validity.is_plausible() => "was made when the clock was not set".to_owned(),
        ..=0 => "has expired".to_owned(),
        1..SOON => format!("expires in {} days", left / DAY),
        _ => return None,
    };
    Some(format!(
        "the certificate in {FILE} {what}: have a new one written with \
         `everynode-coordinator admin-conf`, the coordinator stopped"
    ))
}

/// The certificates in a file that is there.
fn chain_in(directory: &Path) -> Option<Vec<CertificateDer<'static>>> {
    let text = fs::read_to_string(directory.join(FILE)).ok()?;
    let mut lines = text.lines().map(str::trim);
    let chain = lines.find_map(|line| line.strip_prefix("client-certificate-data: "))?;
    certificates_from_pem(&STANDARD.decode(chain.trim()).ok()?).ok()
}

fn text(pki: &Pki, admin: &Issued, server: &str) -> String {
    let chain = pem("CERTIFICATE", &admin.chain);
    let key = pem("PRIVATE KEY", &[admin.key.secret_der()]);
    let authorities = pem("CERTIFICATE", &pki.authorities());
    // Every value is base64, a constant, or host:port, which JSON's quotes make safe in YAML.
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: everynode\n  cluster:\n    server: {server}\n    \
         tls-server-name: {SERVER_NAME}\n    certificate-authority-data: {authorities}\n\
         users:\n\
         - name: {USER}\n  user:\n    client-certificate-data: {chain}\n    \
         client-key-data: {key}\n\
         contexts:\n\
         - name: everynode\n  context:\n    cluster: everynode\n    user: {USER}\n\
         current-context: everynode\n",
        server = serde_json::Value::String(format!("https://{server}")),
        authorities = STANDARD.encode(authorities),
        chain = STANDARD.encode(chain),
        key = STANDARD.encode(key),
    )
}

/// RFC 7468, one block after the other.
fn pem<T: AsRef<[u8]>>(label: &str, blocks: &[T]) -> String {
    let mut text = String::new();
    for block in blocks {
        text.push_str(&format!("-----BEGIN {label}-----\n"));
        let encoded = STANDARD.encode(block);
        for line in encoded.as_bytes().chunks(64) {
            text.extend(line.iter().map(|byte| char::from(*byte)));
            text.push('\n');
        }
        text.push_str(&format!("-----END {label}-----\n"));
    }
    text
}

/// Writes a file for its owner alone over one that is there, whole or not at all.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".partial");
    let draft = PathBuf::from(draft);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::entropy::Entropy;
    use crate::pki::Authority;
    use everynode_model::WallTime;
    use everynode_transport::ClientIdentity;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    fn pki() -> Pki {
        let entropy = Arc::new(Entropy::system());
        let now = WallTime::from_unix_millis(1_795_392_000_000);
        let authority = Authority::make(&entropy, now).unwrap();
        Pki::new(vec![authority], Arc::new(SystemClock::start()), entropy).unwrap()
    }

    fn field(text: &str, name: &str) -> Vec<u8> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
        STANDARD.decode(line.trim()).unwrap()
    }

    #[test]
    fn the_file_is_its_owners_and_holds_an_admins_identity() {
        let directory = tempfile::tempdir().unwrap();
        let (pki, cluster) = (pki(), ClusterId::new(uuid::Uuid::from_u128(4)));
        let path = write(directory.path(), &pki, cluster, "10.0.0.1:7443").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(server_in(directory.path()).as_deref(), Some("10.0.0.1:7443"));
        assert_eq!(cluster_in(directory.path()), Some(cluster));

        let text = fs::read_to_string(&path).unwrap();
        let identity = ClientIdentity::from_pem(
            &field(&text, "client-certificate-data: "),
            &field(&text, "client-key-data: "),
        )
        .unwrap();
        let (peer, validity) = Peer::from_certificate(&identity.chain[0]).unwrap();
        assert_eq!(validity_in(directory.path()), Some(validity));
        assert_eq!(peer, Peer::User { cluster, name: "admin".into(), role: Role::Admin });
        let trusted = field(&text, "certificate-authority-data: ");
        let trusted = everynode_transport::identity::certificates_from_pem(&trusted).unwrap();
        assert_eq!(trusted, pki.authorities());
    }

    #[test]
    fn the_end_is_told_a_month_before() {
        let validity = Validity { not_before: 1_795_392_000, not_after: 1_795_392_000 + 365 * DAY };
        let told = |days: i64| {
            let at = validity.not_before + days * DAY;
            warning(validity, WallTime::from_unix_millis(at * 1000))
        };
        assert_eq!((told(0), told(334)), (None, None));
        assert!(told(336).unwrap().contains("expires in 29 days"));
        assert!(told(366).unwrap().contains("has expired"));
        assert_eq!(warning(validity, WallTime::from_unix_millis(0)), None, "who knows");
        let unset = Validity { not_before: 0, not_after: 365 * DAY };
        let now = WallTime::from_unix_millis(validity.not_before * 1000);
        assert!(warning(unset, now).unwrap().contains("clock was not set"));
    }

    #[test]
    fn a_file_that_is_there_stays_unless_a_new_one_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let (pki, cluster) = (pki(), ClusterId::new(uuid::Uuid::from_u128(4)));
        let read = || fs::read_to_string(directory.path().join(FILE)).unwrap();
        write_if_absent(directory.path(), &pki, cluster, "a:1").unwrap();
        let first = read();
        write_if_absent(directory.path(), &pki, cluster, "b:1").unwrap();
        assert_eq!(read(), first);
        write(directory.path(), &pki, cluster, "b:1").unwrap();
        assert_ne!(read(), first);
    }
}
