//! Registries as they are: Debian's `docker-registry`, one that wants a name and a password, and
//! one that wants tokens; and images that `skopeo` brings there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use everynode_model::{Digest, go_arch};
use everynode_tests::daemon::Daemon;
use everynode_tests::said::Said;
use everynode_tests::{Fleet, Outcome, ensure, wait};
use serde_json::{Value, json};

use super::files::Files;

const MACHINE: &str = "n9";
const SERVER: &str = include_str!("tokens.py");
const OCI: &str = "application/vnd.oci.image";
const TOKENS: u16 = 5002;

pub(super) const USER: &str = "alice";
pub(super) const PASSWORD: &str = "correct-horse";
/// The same to a registry.
const HTPASSWD: &str = "alice:$2y$05$PAc8G4V.xQklFVE3wvUJjOnN1PWVR7qlcrlzzIqsU9DrrHRRqYvMG\n";

/// Two registries on a machine of their own. Dropped, they are ended.
pub(super) struct Registries {
    /// Where a name and a password are wanted: `HOST:PORT`.
    pub(super) basic: String,
    /// Where tokens are.
    pub(super) tokens: String,
    /// What the one who gives them has written down.
    tokens_log: PathBuf,
    certificates: PathBuf,
    daemons: Vec<Daemon>,
}

/// An image as files, before anybody pushes it (OCI image layout).
pub(super) struct Layout {
    directory: PathBuf,
}

/// An image in a registry.
pub(super) struct Image {
    /// As a template names it.
    pub(super) reference: String,
    /// The program that is in it.
    pub(super) program: Vec<u8>,
}

/// What this machine lacks for it.
pub(super) fn lacking() -> Option<&'static str> {
    let is_there = |program: &&str| Command::new(program).arg("--version").output().is_ok();
    ["docker-registry", "skopeo", "openssl"].into_iter().find(|program| !is_there(program))
}

impl Registries {
    pub(super) fn start(fleet: &Fleet<'_>, files: &Files) -> Outcome<Self> {
        let host = fleet.machine(MACHINE)?.address().v4();
        let certificates = fleet.path("certificates");
        fs::create_dir_all(&certificates)?;
        fs::copy(&files.authority, certificates.join("ca.crt"))?;
        let tokens_log = fleet.path("tokens.log");
        let mut registries = Self {
            basic: format!("{host}:5000"),
            tokens: format!("{host}:5001"),
            tokens_log,
            certificates,
            daemons: Vec::new(),
        };
        registries.give_tokens(fleet, files, &host)?;
        let htpasswd = fleet.write("htpasswd", HTPASSWD)?;
        let signs = fleet.path("signs.pem");
        let realm = format!("https://{host}:{TOKENS}/token");
        let auth = json!({"htpasswd": {"realm": "everynode", "path": htpasswd}});
        registries.serve(fleet, files, "basic", &registries.basic.clone(), &auth)?;
        let auth = json!({"token": {"realm": realm, "service": "a registry", "issuer": "tokens",
            "rootcertbundle": signs}});
        registries.serve(fleet, files, "tokens", &registries.tokens.clone(), &auth)?;
        Ok(registries)
    }

    fn give_tokens(&mut self, fleet: &Fleet<'_>, files: &Files, host: &str) -> Outcome {
        let (signs, key) = (fleet.path("signs.pem"), fleet.path("signs.key"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tokens"]);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&signs);
        Said::by(openssl)?.ok()?;
        fs::write(&self.tokens_log, "")?;
        let script = fleet.write("tokens.py", SERVER)?;
        let mut command = fleet.machine(MACHINE)?.command("/usr/bin/python3".as_ref());
        command.args([&script, host, &TOKENS.to_string(), &files.authority, &files.key]);
        command.arg(&signs).arg(&key).arg(format!("{USER}:{PASSWORD}")).arg(&self.tokens_log);
        self.daemons.push(Daemon::start(command, &fleet.path("tokens.out"))?);
        Ok(())
    }

    fn serve(
        &mut self,
        fleet: &Fleet<'_>,
        files: &Files,
        name: &str,
        address: &str,
        auth: &Value,
    ) -> Outcome {
        // JSON is YAML, too.
        let config = json!({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": fleet.path(&format!("registry-{name}"))}},
            "http": {"addr": address, "secret": "x",
                "tls": {"certificate": files.authority, "key": files.key}},
            "auth": auth,
        });
        let config = fleet.write(&format!("registry-{name}.yaml"), &config.to_string())?;
        let machine = fleet.machine(MACHINE)?;
        let mut command = machine.command("docker-registry".as_ref());
        command.args(["serve", &config]);
        self.daemons.push(Daemon::start(command, &fleet.path(&format!("registry-{name}.log")))?);
        wait::soon("a registry answers", || {
            let mut curl = machine.command("curl".as_ref());
            curl.args([
                "-sS",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--cacert",
                &files.authority,
            ]);
            curl.arg(format!("https://{address}/v2/"));
            let said = Said::by(curl)?.ok()?;
            ensure!(said == "401", "{said}");
            Ok(())
        })
    }

    /// Pushes what is at the top of a layout, by a name and a password.
    pub(super) fn push(
        &self,
        fleet: &Fleet<'_>,
        layout: &Layout,
        digest: &str,
        (registry, name): (&str, &str),
        program: &[u8],
    ) -> Outcome<Image> {
        let to = format!("{registry}/{name}");
        let mut skopeo = fleet.machine(MACHINE)?.command("skopeo".as_ref());
        skopeo.args(["--insecure-policy", "copy", "--all", "--preserve-digests", "--quiet"]);
        skopeo.arg("--dest-cert-dir").arg(&self.certificates);
        skopeo.args(["--dest-creds", &format!("{USER}:{PASSWORD}")]);
        skopeo.arg(format!("oci:{}:pushed", layout.directory.display()));
        skopeo.arg(format!("docker://{to}"));
        Said::by(skopeo)?.ok()?;
        Ok(Image { reference: format!("{to}@sha256:{digest}"), program: program.to_vec() })
    }

    /// To whom tokens were given or not since this was asked last: a status and scopes each.
    pub(super) fn tokens_given(&self) -> Outcome<Vec<String>> {
        let log = fs::read_to_string(&self.tokens_log)?;
        fs::write(&self.tokens_log, "")?;
        Ok(log.lines().map(str::to_owned).collect())
    }

    /// The Secret with which both let in whoever has this password, as `kubectl create secret
    /// docker-registry` makes it.
    pub(super) fn secret(&self, name: &str, password: &str) -> String {
        let entry = json!({"username": USER, "password": password});
        let config =
            json!({"auths": {&self.basic: entry, format!("https://{}", self.tokens): entry}});
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": config.to_string()}})
        .to_string()
    }
}

impl Layout {
    pub(super) fn new(fleet: &Fleet<'_>, name: &str) -> Outcome<Self> {
        let directory = fleet.path(&format!("layout-{name}"));
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Self { directory })
    }

    /// A layer of what is in a directory.
    pub(super) fn archive(&self, of: &Path) -> Outcome<Value> {
        let packed = self.directory.join("packed");
        let mut tar = Command::new("tar");
        tar.arg("czf").arg(&packed).arg("-C").arg(of).arg(".");
        Said::by(tar)?.ok()?;
        self.blob(&format!("{OCI}.layer.v1.tar+gzip"), &fs::read(packed)?)
    }

    /// A layer of one file, as `oras push` makes it: its type is a lie.
    pub(super) fn file(&self, name: &str, content: &[u8]) -> Outcome<Value> {
        let mut layer = self.blob(&format!("{OCI}.layer.v1.tar"), content)?;
        layer["annotations"] = json!({"org.opencontainers.image.title": name});
        Ok(layer)
    }

    /// A manifest of these layers, for an architecture.
    pub(super) fn manifest(&self, arch: &str, layers: &[Value]) -> Outcome<Value> {
        let config = json!({"architecture": arch, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": []}});
        let config = self.blob(&format!("{OCI}.config.v1+json"), config.to_string().as_bytes())?;
        let kind = format!("{OCI}.manifest.v1+json");
        let manifest =
            json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        let mut manifest = self.blob(&kind, manifest.to_string().as_bytes())?;
        manifest["platform"] = json!({"os": "linux", "architecture": arch});
        Ok(manifest)
    }

    /// Makes an index of manifests what is pushed.
    pub(super) fn index(&self, manifests: &[Value]) -> Outcome<String> {
        let kind = format!("{OCI}.index.v1+json");
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
        self.top(self.blob(&kind, index.to_string().as_bytes())?)
    }

    /// Makes something what is pushed; its digest in hexadecimal.
    pub(super) fn top(&self, mut of: Value) -> Outcome<String> {
        of["annotations"] = json!({"org.opencontainers.image.ref.name": "pushed"});
        let index = json!({"schemaVersion": 2, "manifests": [of]});
        fs::write(self.directory.join("index.json"), index.to_string())?;
        Ok(of["digest"].as_str().unwrap_or_default().replace("sha256:", ""))
    }

    /// Serves all of it as a registry would, in a directory of files.
    pub(super) fn serve(&self, at: &Path) -> Outcome {
        for kind in ["manifests", "blobs"] {
            let at = at.join(kind);
            fs::create_dir_all(&at)?;
            for blob in fs::read_dir(self.directory.join("blobs/sha256"))? {
                let blob = blob?;
                fs::copy(blob.path(), at.join(format!("sha256:{}", blob.file_name().display())))?;
            }
        }
        Ok(())
    }

    fn blob(&self, kind: &str, content: &[u8]) -> Outcome<Value> {
        let digest = Digest::of(content);
        fs::write(self.directory.join("blobs/sha256").join(digest.to_string()), content)?;
        Ok(json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": content.len()}))
    }
}

/// An architecture that is not this machine's.
pub(super) fn another_arch() -> &'static str {
    if go_arch() == "s390x" { "amd64" } else { "s390x" }
}
