//! Whether the programs of a pod are there and can run on this machine: before the pod that it
//! replaces is stopped, and in words that `execve` has none for.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use everynode_agent_core::{ContainerSpec, PodSpec, Role};
use everynode_model::Reason;
use everynode_runtime::{DEFAULT_PATH, is_program, programs_in};

use super::volumes::{Seen, seen};

/// What the kernel reads of a script's first line (`BINPRM_BUF_SIZE`).
const FIRST_LINE: usize = 256;
/// Program headers looked at: programs have some ten.
const HEADERS: u64 = 64;
/// ELF's `PT_INTERP`: the path of the dynamic loader.
const PT_INTERP: u32 = 3;

/// Why a pod of this spec could not run, by its programs: the machine's own, and those that were
/// delivered.
///
/// What comes after an init container may be its work, and what lies in another volume is not here yet:
/// both are passed over.
pub(super) fn check(spec: &PodSpec) -> Result<(), Reason> {
    let first_init = spec.containers.iter().position(|one| one.lifecycle.role != Role::Main);
    let known = first_init.map_or(spec.containers.len(), |at| at + 1);
    for container in spec.containers.iter().take(known) {
        let view = View { container, spec };
        view.check().map_err(|line| {
            let name = &container.name;
            Reason::new("RunContainerError", format!("container {name} can't run: {line}"))
        })?;
    }
    Ok(())
}

/// What a container will see.
#[derive(Clone, Copy)]
struct View<'a> {
    container: &'a ContainerSpec,
    spec: &'a PodSpec,
}

impl View<'_> {
    fn at(self, path: &Path) -> Seen {
        seen(self.container, self.spec, path)
    }

    /// Whether a file is there that `is` what it has to be, or may be.
    fn may(self, path: &Path, is: impl FnOnce(&Path) -> bool) -> bool {
        match self.at(path) {
            Seen::At(at) => is(&at),
            Seen::NotYet => true,
            Seen::Nowhere => false,
        }
    }

    fn check(self) -> Result<(), String> {
        let Some(name) = self.container.argv.first().filter(|name| !name.is_empty()) else {
            return Err("no command".into());
        };
        let file = self.find(name)?;
        let checked = match self.at(&file) {
            Seen::At(at) => self.check_file(&at),
            Seen::NotYet => Ok(()),
            Seen::Nowhere => Err("no such file in what is delivered".into()),
        };
        checked.map_err(|line| format!("{}: {line}", file.display()))
    }

    /// The file that the supervisor would run.
    fn find(self, name: &str) -> Result<PathBuf, String> {
        let directory = Path::new(self.container.working_dir.as_deref().unwrap_or("/"));
        if !self.may(directory, Path::is_dir) {
            return Err(format!("workingDir {} is no directory", directory.display()));
        }
        if name.contains('/') {
            return Ok(directory.join(name));
        }
        let path = self.container.env.iter().rev().find(|(key, _)| key == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, path)| path);
        let mut files = programs_in(path, name);
        let found = files.find(|file| self.may(file, is_program));
        found.ok_or_else(|| format!("{name:?} not found in PATH ({path})"))
    }

    /// Whether this machine runs a file, by what the kernel looks at.
    fn check_file(self, file: &Path) -> Result<(), String> {
        match file.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err("no such file on this node".into());
            }
            Err(error) => return Err(error.to_string()),
            Ok(found) if !found.is_file() => return Err("not a regular file".into()),
            Ok(_) if !is_program(file) => return Err("not executable".into()),
            Ok(_) => {}
        }
        let mut head = Vec::with_capacity(FIRST_LINE);
        let mut opened = File::open(file).map_err(|error| error.to_string())?;
        let limit = u64::try_from(FIRST_LINE).unwrap_or(u64::MAX);
        (&mut opened).take(limit).read_to_end(&mut head).map_err(|error| error.to_string())?;
        if let Some(line) = head.strip_prefix(b"#!") {
            return self.check_interpreter(line);
        }
        if head.starts_with(b"\x7fELF") {
            return self.check_elf(&mut opened, &head);
        }
        if others_are_run() {
            return Ok(());
        }
        Err("neither a program nor a script with `#!`".into())
    }

    fn check_elf(self, opened: &mut File, head: &[u8]) -> Result<(), String> {
        match machine_of(head) {
            Some(machine) if runs_here(machine) => match loader_of(opened, head) {
                Some(loader) if !self.may(&loader, Path::exists) => {
                    Err(format!("its loader {} is not on this node", loader.display()))
                }
                _ => Ok(()),
            },
            _ if others_are_run() => Ok(()),
            Some(machine) => {
                let (is, here) = (name_of(machine), std::env::consts::ARCH);
                Err(format!("a program for {is}, and this node is {here}"))
            }
            None => Err("a damaged program".into()),
        }
    }

    fn check_interpreter(self, line: &[u8]) -> Result<(), String> {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
        let word = line.split(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or_default();
        let interpreter = Path::new(std::ffi::OsStr::from_bytes(word));
        if self.may(interpreter, is_program) {
            return Ok(());
        }
        Err(format!("its interpreter {:?} is not on this node", interpreter.display().to_string()))
    }
}

/// The `e_machine` of an ELF header.
fn machine_of(head: &[u8]) -> Option<u16> {
    let bytes = head.get(18..20)?.try_into().ok()?;
    match head.get(5)? {
        1 => Some(u16::from_le_bytes(bytes)),
        2 => Some(u16::from_be_bytes(bytes)),
        _ => None,
    }
}

/// The dynamic loader that a 64-bit, little-endian program names, if it can be told.
fn loader_of(file: &mut File, head: &[u8]) -> Option<PathBuf> {
    if head.get(4..6)? != [2, 1] {
        return None;
    }
    let table = u64::from_le_bytes(head.get(32..40)?.try_into().ok()?);
    let size = u64::from(u16::from_le_bytes(head.get(54..56)?.try_into().ok()?));
    let count = u64::from(u16::from_le_bytes(head.get(56..58)?.try_into().ok()?));
    for number in 0..count.min(HEADERS) {
        let mut header = [0; 56];
        file.seek(SeekFrom::Start(table.checked_add(number * size)?)).ok()?;
        file.read_exact(&mut header).ok()?;
        if u32::from_le_bytes(header.get(..4)?.try_into().ok()?) == PT_INTERP {
            let at = u64::from_le_bytes(header.get(8..16)?.try_into().ok()?);
            let length = u64::from_le_bytes(header.get(32..40)?.try_into().ok()?);
            let mut path = vec![0; usize::try_from(length).ok().filter(|it| *it <= 4096)?];
            file.seek(SeekFrom::Start(at)).ok()?;
            file.read_exact(&mut path).ok()?;
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
            return Some(Path::new(std::ffi::OsStr::from_bytes(path.get(..end)?)).to_owned());
        }
    }
    None
}

/// The machines of <https://refspecs.linuxfoundation.org/elf/> that Rust names.
const MACHINES: [(u16, &str); 9] = [
    (3, "x86"),
    (62, "x86_64"),
    (40, "arm"),
    (183, "aarch64"),
    (243, "riscv64"),
    (22, "s390x"),
    (21, "powerpc64"),
    (258, "loongarch64"),
    (8, "mips64"),
];

fn name_of(machine: u16) -> String {
    let known = MACHINES.iter().find(|(number, _)| *number == machine);
    known.map_or_else(|| format!("machine {machine}"), |(_, name)| (*name).to_owned())
}

/// Whether this kernel's own loader takes it: of its architecture, or the 32-bit one that it also runs.
fn runs_here(machine: u16) -> bool {
    let here = std::env::consts::ARCH;
    let is = name_of(machine);
    let known = MACHINES.iter().any(|(_, name)| *name == here);
    !known || is == here || matches!((here, is.as_str()), ("x86_64", "x86") | ("aarch64", "arm"))
}

/// Whether the kernel was told of more formats (`binfmt_misc`): then nothing is known.
fn others_are_run() -> bool {
    let entries = std::fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| name != "register" && name != "status")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use everynode_agent_core::{Volume, VolumeMount, VolumeSource};

    use super::*;

    fn said(words: &[&str], env: &[(&str, &str)]) -> Result<(), String> {
        let container = ContainerSpec {
            name: "main".into(),
            argv: words.iter().map(ToString::to_string).collect(),
            env: env.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            ..ContainerSpec::default()
        };
        let spec = PodSpec { containers: vec![container], ..PodSpec::default() };
        check(&spec).map_err(|reason| reason.to_string())
    }

    /// What is said of a file with these bytes and this mode.
    fn of_file(content: &[u8], mode: u32) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("program");
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let path = file.to_str().unwrap();
        said(&[path], &[]).map_err(|line| line.replace(path, "FILE"))
    }

    fn own_with(machine: u16) -> Vec<u8> {
        let mut bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        bytes.truncate(1 << 16);
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes
    }

    #[test]
    fn programs_of_the_machine_are_found_as_they_will_be() {
        assert_eq!(said(&["sh"], &[]), Ok(()));
        assert_eq!(said(&["/bin/sh"], &[]), Ok(()));
        assert_eq!(said(&["bin/sh"], &[]), Ok(()), "relative to the working directory");
        let line =
            "RunContainerError: container main can't run: \"sh\" not found in PATH (/nowhere)";
        assert_eq!(said(&["sh"], &[("PATH", "/bin"), ("PATH", "/nowhere")]), Err(line.into()));
        let line =
            "RunContainerError: container main can't run: /no/such: no such file on this node";
        assert_eq!(said(&["/no/such"], &[]), Err(line.into()));
    }

    #[test]
    fn what_cannot_run_here_is_told_by_why() {
        let ends = |said: Result<(), String>, with: &str| {
            let line = said.unwrap_err();
            assert!(line.ends_with(with), "{line}");
        };
        ends(of_file(b"#!/bin/sh\n", 0o644), "FILE: not executable");
        ends(
            of_file(b"#!/no/such -x\n", 0o755),
            "its interpreter \"/no/such\" is not on this node",
        );
        assert_eq!(of_file(b"#! /bin/sh -e\n", 0o755), Ok(()));
        if others_are_run() {
            return println!("skipped: this machine runs programs of other formats");
        }
        ends(of_file(b"hello\n", 0o755), "neither a program nor a script with `#!`");
        let line = format!("a program for s390x, and this node is {}", std::env::consts::ARCH);
        ends(of_file(&own_with(22), 0o755), &line);
        ends(of_file(b"\x7fELF", 0o755), "a damaged program");
    }

    #[test]
    fn a_loader_that_is_not_there_is_named() {
        let mut program = own_with(u16::from_le_bytes(
            fs::read(std::env::current_exe().unwrap()).unwrap()[18..20].try_into().unwrap(),
        ));
        assert_eq!(of_file(&program, 0o755), Ok(()));
        let Some(at) = program.windows(4).position(|four| four == b"/lib") else {
            return println!("skipped: this machine's programs have no loader");
        };
        program[at..at + 4].copy_from_slice(b"/xxx");
        let line = of_file(&program, 0o755).unwrap_err();
        assert!(line.contains("its loader /xxx"), "{line}");
    }

    #[test]
    fn a_program_that_is_delivered_is_looked_at_where_it_lies() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (name, content, mode) in [
            ("run", &b"#!/opt/x/sh\n"[..], 0o755),
            ("orphan", b"#!/opt/x/no\n", 0o755),
            ("data", b"#!/bin/sh\n", 0o644),
            ("sh", b"#!/bin/sh\n", 0o755),
            ("other", &own_with(22), 0o755),
        ] {
            fs::write(at(name), content).unwrap();
            fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
        }
        let source = everynode_agent_core::ArtifactSource {
            directory: directory.path().to_str().unwrap().into(),
            inside: None,
        };
        let said = |command: &str| {
            let mount =
                VolumeMount { volume: "x".into(), path: "/opt/x".into(), ..VolumeMount::default() };
            let container = ContainerSpec {
                argv: vec![command.into()],
                env: vec![("PATH".into(), "/opt/x".into())],
                mounts: vec![mount],
                ..ContainerSpec::default()
            };
            let volume =
                Volume { name: "x".into(), source: VolumeSource::Artifact(source.clone()) };
            let spec = PodSpec {
                containers: vec![container],
                volumes: vec![volume],
                ..PodSpec::default()
            };
            check(&spec).err().map(|reason| reason.message)
        };
        assert_eq!((said("/opt/x/run"), said("run")), (None, None));
        let ends = |command, end| said(command).is_some_and(|line| line.ends_with(end));
        assert!(ends("/opt/x/no", "/opt/x/no: no such file in what is delivered"));
        assert!(ends("/opt/x/orphan", "its interpreter \"/opt/x/no\" is not on this node"));
        assert!(
            ends("/opt/x/data", "not executable") && ends("data", "not found in PATH (/opt/x)")
        );
        if others_are_run() {
            return println!("skipped: this machine runs programs of other formats");
        }
        let line = format!("a program for s390x, and this node is {}", std::env::consts::ARCH);
        assert!(ends("/opt/x/other", &line));
    }

    #[test]
    fn what_an_init_container_may_make_is_not_looked_for() {
        let mut containers =
            vec![ContainerSpec { argv: vec!["/bin/sh".into()], ..Default::default() }];
        containers[0].lifecycle.role = Role::Init;
        containers.push(ContainerSpec { argv: vec!["/made/by/it".into()], ..Default::default() });
        let mut spec = PodSpec { containers, ..PodSpec::default() };
        assert_eq!(check(&spec), Ok(()));
        spec.containers[0].lifecycle.role = Role::Main;
        assert!(check(&spec).is_err());
    }
}
