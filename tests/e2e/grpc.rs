//! The operator's services, by a program that has never heard of them: the real grpcurl.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use everynode_tests::daemon::Daemon;
use everynode_tests::ground::Ground;
use everynode_tests::manifests::{EXPORTER, EXPORTER_PROGRAM};
use everynode_tests::said::Said;
use everynode_tests::{Context as _, Fleet, Outcome, ensure, failure, wait};
use serde_json::{Value, json};

/// The name in the coordinator's certificate.
const SERVER: &str = "everynode-coordinator";

struct Grpcurl<'f> {
    fleet: &'f Fleet<'f>,
    program: PathBuf,
}

/// list, describe, create a DaemonSet from JSON, list, watch, delete.
pub(crate) fn grpcurl_does_it_all(ground: &Ground) -> Outcome {
    let Some(program) = ground.tool("grpcurl") else {
        let _ = writeln!(
            std::io::stdout(),
            "grpc::grpcurl_does_it_all: skipped, there is no grpcurl (tests/run makes it where \
             there is Go)"
        );
        return Ok(());
    };
    Fleet::play(ground, 1, |fleet| {
        let grpcurl = Grpcurl { fleet, program: program.clone() };
        grpcurl.write_identity()?;
        grpcurl.explores()?;
        grpcurl.runs_a_daemon_set()?;
        grpcurl.is_denied()
    })
}

impl Grpcurl<'_> {
    /// What `admin.conf` holds, as files.
    fn write_identity(&self) -> Outcome {
        let text = fs::read_to_string(self.fleet.coordinator().admin())?;
        for (field, file) in [
            ("certificate-authority-data: ", "ca.pem"),
            ("client-certificate-data: ", "cert.pem"),
            ("client-key-data: ", "key.pem"),
        ] {
            let value = text.lines().find_map(|line| line.trim().strip_prefix(field));
            let value = value.ok_or_else(|| failure!("admin.conf has no {field}"))?;
            let pem =
                BASE64_STANDARD.decode(value).map_err(|error| failure!("{field}: {error}"))?;
            fs::write(self.fleet.path(file), pem).context(file)?;
        }
        Ok(())
    }

    fn command(&self, flags: &[&str], call: &[&str]) -> std::process::Command {
        let mut command = self.fleet.coordinator().command(&self.program);
        command.arg("-cacert").arg(self.fleet.path("ca.pem"));
        command.args(["-servername", SERVER, "-authority", SERVER, "-max-time", "60"]);
        command.args(flags).arg(self.fleet.coordinator().address()).args(call);
        command
    }

    fn identity(&self) -> [String; 4] {
        let file = |name| self.fleet.path(name).display().to_string();
        ["-cert".into(), file("cert.pem"), "-key".into(), file("key.pem")]
    }

    fn call(&self, flags: &[&str], call: &[&str]) -> Outcome<Said> {
        let identity = self.identity();
        let flags: Vec<&str> =
            identity.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        Said::by(self.command(&flags, call))
    }

    fn explores(&self) -> Outcome {
        let services = self.call(&[], &["list"])?.ok()?;
        for service in ["DaemonSets", "Nodes", "Pods", "Events", "Tokens", "Cluster", "Agent"] {
            ensure!(services.contains(&format!("everynode.v1.{service}\n")), "{services}");
        }
        ensure!(services.contains("grpc.health.v1.Health"), "{services}");
        let described = self.call(&[], &["describe", "everynode.v1.DaemonSets"])?.ok()?;
        ensure!(described.contains("rpc Create"), "{described}");
        let message = self.call(&[], &["describe", "everynode.v1.DaemonSet"])?.ok()?;
        ensure!(message.contains("google.protobuf.Struct spec"), "{message}");
        let health = self.call(&[], &["grpc.health.v1.Health/Check"])?.json()?;
        ensure!(health["status"] == "SERVING", "{health}");
        Ok(())
    }

    fn runs_a_daemon_set(&self) -> Outcome {
        let log = self.fleet.path("watch.log");
        let identity = self.identity();
        let flags: Vec<&str> = identity.iter().map(String::as_str).collect();
        let watch = Daemon::start(self.command(&flags, &["everynode.v1.DaemonSets/Watch"]), &log)?;
        seen(&watch, "EVENT_KIND_BOOKMARK")?;

        let request = json!({"daemon_set": daemon_set()}).to_string();
        let call = ["everynode.v1.DaemonSets/Create"];
        let made = self.call(&["-d", &request], &call)?.json()?;
        ensure!(made["daemonSet"]["metadata"]["uid"].is_string(), "{made}");
        let again = self.call(&["-d", &request], &call)?;
        ensure!(again.code != Some(0) && again.err.contains("AlreadyExists"), "{again}");

        let machine = self.fleet.machine("n1")?;
        wait::soon("the exporter runs", || {
            machine.only(EXPORTER_PROGRAM)?;
            machine.scrape()
        })?;
        let list = self.call(&[], &["everynode.v1.DaemonSets/List"])?.json()?;
        ensure!(list["items"][0]["metadata"]["name"] == "node-exporter", "{list}");
        let template = &list["items"][0]["spec"]["template"]["spec"];
        ensure!(template["containers"][0]["command"][0] == EXPORTER, "{list}");
        seen(&watch, "EVENT_KIND_ADDED")?;
        seen(&watch, "\"numberReady\": 1")?;

        let which = json!({"namespace": "default", "name": "node-exporter"}).to_string();
        self.call(&["-d", &which], &["everynode.v1.DaemonSets/Delete"])?.ok()?;
        wait::soon("the exporter is gone", || machine.none(EXPORTER_PROGRAM))?;
        seen(&watch, "EVENT_KIND_DELETED")?;
        let list = self.call(&[], &["everynode.v1.DaemonSets/List"])?.json()?;
        ensure!(list["items"].is_null(), "{list}");
        watch.kill()
    }

    /// Without a certificate, nothing but reflection and health; nonsense is named by its field.
    fn is_denied(&self) -> Outcome {
        let list = Said::by(self.command(&[], &["everynode.v1.DaemonSets/List"]))?;
        ensure!(list.code != Some(0) && list.err.contains("Unauthenticated"), "{list}");
        let mut wrong = daemon_set();
        wrong["spec"]["template"]["spec"]["hostNetwrok"] = Value::Bool(true);
        let request = json!({"daemon_set": wrong}).to_string();
        let refused = self.call(&["-d", &request], &["everynode.v1.DaemonSets/Create"])?;
        ensure!(refused.code != Some(0) && refused.err.contains("InvalidArgument"), "{refused}");
        ensure!(refused.err.contains("spec.template.spec.hostNetwrok"), "{refused}");
        Ok(())
    }
}

fn seen(watch: &Daemon, words: &str) -> Outcome {
    wait::soon(&format!("the watch shows {words}"), || {
        ensure!(watch.said().contains(words), "{}", watch.said());
        Ok(())
    })
}

fn daemon_set() -> Value {
    json!({
        "metadata": {"name": "node-exporter"},
        "spec": {
            "selector": {"matchLabels": {"app": "node-exporter"}},
            "template": {
                "metadata": {"labels": {"app": "node-exporter"}},
                "spec": {
                    "runtimeClassName": "process",
                    "hostNetwork": true,
                    "containers": [{
                        "name": "node-exporter",
                        "command": [EXPORTER, "--web.listen-address=:9100", "--log.level=error"],
                    }],
                },
            },
        },
    })
}
