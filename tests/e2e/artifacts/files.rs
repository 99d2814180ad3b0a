//! Files that are served over HTTPS, and counted; and the programs in them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use everynode_model::{Digest, go_arch};
use everynode_tests::daemon::Daemon;
use everynode_tests::said::Said;
use everynode_tests::{Fleet, Outcome, ensure, wait};

const PORT: u16 = 8443;
const SERVER: &str = include_str!("files.py");

/// A program of this size and a little more, so that it does not come in one piece.
const PROGRAM: &str = "
#include <unistd.h>
const char padding[1 << 20] = {VERSION};
int main(void) { for (;;) pause(); return padding[0]; }
";

/// ELF's number for an architecture that no machine with these tests has, and where it stands.
const S390: [u8; 2] = [22, 0];
const MACHINE: std::ops::Range<usize> = 18..20;

/// A server of files on a machine of its own. Dropped, it is ended.
pub(super) struct Files {
    /// Where it is, with a slash at the end.
    pub(super) url: String,
    /// The file of the certificate by which it is trusted.
    pub(super) authority: String,
    /// The file of its key.
    pub(super) key: String,
    /// The directory of what it serves.
    pub(super) directory: String,
    log: PathBuf,
    _server: Daemon,
}

/// One that it serves.
pub(super) struct File {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) size: usize,
    /// The program that is in it.
    pub(super) program: Vec<u8>,
}

impl Files {
    pub(super) fn serve(fleet: &mut Fleet<'_>) -> Outcome<Self> {
        let name = fleet.add_machine(9)?;
        let machine = fleet.machine(&name)?;
        let host = machine.address().v6();
        let own = rcgen::generate_simple_self_signed([host.clone(), machine.address().v4()]);
        let own = own.map_err(|error| everynode_tests::failure!("{error}"))?;
        let authority = fleet.write("files.crt", &own.cert.pem())?;
        let key = fleet.write("files.key", &own.signing_key.serialize_pem())?;
        let script = fleet.write("files.py", SERVER)?;
        let (directory, log) = (fleet.path("files"), fleet.path("files.log"));
        fs::create_dir_all(directory.join("mirror"))?;
        fs::write(&log, "")?;
        let mut command = machine.command("/usr/bin/python3".as_ref());
        command.args([&script, "::", &PORT.to_string()]).arg(&directory);
        command.args([&authority, &key]).arg(&log);
        let server = Daemon::start(command, &fleet.path("files.out"))?;
        wait::soon("files are served", || {
            let mut command = machine.command("curl".as_ref());
            command.args(["-sS", "--cacert", &authority, "--globoff"]);
            command.arg(format!("https://[{host}]:{PORT}/none"));
            let said = Said::by(command)?.ok()?;
            ensure!(said.contains("404"), "{said}");
            Ok(())
        })?;
        fs::write(&log, "")?;
        let directory = directory.display().to_string();
        let url = format!("https://[{host}]:{PORT}/");
        Ok(Self { url, authority, key, directory, log, _server: server })
    }

    /// Serves a program as it is.
    pub(super) fn plain(&self, name: &str, program: &[u8]) -> Outcome<File> {
        self.put(name, program.to_vec(), program)
    }

    /// Serves an archive with a program in a directory.
    pub(super) fn archive(
        &self,
        fleet: &Fleet<'_>,
        name: &str,
        directory: &str,
        program: &[u8],
    ) -> Outcome<File> {
        let root = fleet.path("archive");
        fs::create_dir_all(root.join(directory))?;
        let file = root.join(directory).join("delivered");
        fs::write(&file, program)?;
        let archive = fleet.path("archive.tar.gz");
        let script = "chmod 755 \"$2\" && tar czf \"$0\" -C \"$1\" .";
        let mut tar = Command::new("sh");
        tar.args(["-c", script]).args([&archive, &root, &file]);
        Said::by(tar)?.ok()?;
        self.put(name, fs::read(archive)?, program)
    }

    fn put(&self, name: &str, content: Vec<u8>, program: &[u8]) -> Outcome<File> {
        let directory = PathBuf::from(&self.directory);
        for at in [directory.join(name), directory.join("mirror").join(name)] {
            fs::write(at, &content)?;
        }
        let digest = Digest::of(&content).to_string();
        Ok(File { name: name.into(), digest, size: content.len(), program: program.to_vec() })
    }

    /// How a template names one, with what is inside of it.
    pub(super) fn reference(&self, file: &File, inside: &str) -> String {
        let File { name, digest, .. } = file;
        format!("{}{name}{inside}@{}=sha256:{digest}", self.url, go_arch())
    }

    /// Breaks off the first that asks for it, after so many bytes.
    pub(super) fn cut(&self, file: &File, after: usize) -> Outcome {
        self.disturb(&file.name, "cut", after)
    }

    /// Does the `how` (`cut`, or `hold`: goes on being silent) to the first that asks for what is
    /// at a path, after so many bytes.
    pub(super) fn disturb(&self, path: &str, how: &str, after: usize) -> Outcome {
        let at = PathBuf::from(&self.directory).join(format!("{path}.{how}"));
        Ok(fs::write(at, after.to_string())?)
    }

    /// What was sent since this was asked last, sorted: path, from where, how many bytes.
    pub(super) fn sent(&self) -> Outcome<Vec<String>> {
        let log = fs::read_to_string(&self.log)?;
        fs::write(&self.log, "")?;
        let mut lines: Vec<String> = log.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }
}

/// A program that runs for ever, of a version.
pub(super) fn program(fleet: &Fleet<'_>, version: u8) -> Outcome<Vec<u8>> {
    let source = fleet.write("delivered.c", &PROGRAM.replace("VERSION", &version.to_string()))?;
    let program = fleet.path("delivered.out");
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-o"]).arg(&program).arg(source);
    Said::by(cc)?.ok()?;
    Ok(fs::read(program)?)
}

/// One for another kind of machine.
pub(super) fn for_another_machine(fleet: &Fleet<'_>) -> Outcome<Vec<u8>> {
    let mut other = program(fleet, 9)?;
    other[MACHINE].copy_from_slice(&S390);
    Ok(other)
}
