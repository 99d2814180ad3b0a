//! The way to do something on the machine: qemu's guest agent, over a serial port.
//!
//! <https://www.qemu.org/docs/master/interop/qemu-ga-ref.html>: a line of JSON each way. What was
//! said before a machine went down may still come out of the port afterwards, so that the two sides
//! agree on a number before they talk.

use std::cell::{Cell, RefCell};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use everynode_tests::said::Said;
use everynode_tests::{Context as _, Outcome, ensure, failure, wait};

/// For a machine to boot until it answers, emulated on a busy host.
const BOOTS: Duration = Duration::from_secs(240);

/// For one answer; the longest is that of a machine that has just begun to boot.
const ANSWER: Duration = Duration::from_secs(30);

/// Between two greetings of a machine that boots.
const GREETING: Duration = Duration::from_secs(2);

/// For what is run on it to end.
const ENDS: Duration = Duration::from_secs(240);

/// Sent to make either side forget half a line.
const FLUSH: u8 = 0xff;

/// The machine's own hands.
pub(crate) struct Guest {
    port: RefCell<BufReader<UnixStream>>,
    greetings: Cell<u32>,
}

impl Guest {
    /// Waits until the machine has booted so far that it answers.
    pub(crate) fn connect(socket: &Path) -> Outcome<Self> {
        let port = UnixStream::connect(socket).context(socket.display())?;
        port.set_read_timeout(Some(GREETING))?;
        let port = RefCell::new(BufReader::new(port));
        let guest = Self { port, greetings: Cell::new(0) };
        wait::within(BOOTS, "the machine boots", || guest.greet())?;
        guest.port.borrow().get_ref().set_read_timeout(Some(ANSWER))?;
        Ok(guest)
    }

    /// Runs a script to its end.
    pub(crate) fn run(&self, script: &str) -> Outcome<Said> {
        self.run_with(script, b"")
    }

    /// Runs a script with this input to its end.
    pub(crate) fn run_with(&self, script: &str, input: &[u8]) -> Outcome<Said> {
        let arguments = json!({
            "path": "/bin/sh",
            "arg": ["-c", script],
            "input-data": BASE64.encode(input),
            "capture-output": true,
        });
        let pid = self.ask("guest-exec", &arguments)?["pid"].clone();
        let ended = wait::within(ENDS, script, || {
            let status = self.ask("guest-exec-status", &json!({ "pid": pid }))?;
            ensure!(status["exited"] == true, "it runs");
            Ok(status)
        })?;
        let text = |name: &str| {
            let bytes = BASE64.decode(ended[name].as_str().unwrap_or_default());
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        let code = ended["exitcode"].as_i64().and_then(|code| code.try_into().ok());
        Ok(Said { line: script.to_owned(), code, out: text("out-data"), err: text("err-data") })
    }

    fn ask(&self, what: &str, with: &Value) -> Outcome<Value> {
        let line = json!({ "execute": what, "arguments": with }).to_string() + "\n";
        self.port.borrow_mut().get_mut().write_all(line.as_bytes())?;
        let answer = self.line().context(what)?;
        let given = answer.get("return");
        given.cloned().ok_or_else(|| failure!("the machine refuses {what}: {answer}"))
    }

    /// Both sides forget what was, and agree on a number.
    fn greet(&self) -> Outcome {
        let number = self.greetings.get() + 1;
        self.greetings.set(number);
        let greeting = json!({
            "execute": "guest-sync-delimited",
            "arguments": { "id": number },
        });
        let mut port = self.port.borrow_mut();
        port.get_mut().write_all(&[FLUSH])?;
        port.get_mut().write_all((greeting.to_string() + "\n").as_bytes())?;
        drop(port);
        loop {
            self.port.borrow_mut().read_until(FLUSH, &mut Vec::new())?;
            if self.line()?["return"] == number {
                return Ok(());
            }
        }
    }

    fn line(&self) -> Outcome<Value> {
        let mut line = String::new();
        let length = self.port.borrow_mut().read_line(&mut line)?;
        ensure!(length > 0, "the machine is off");
        Ok(serde_json::from_str(&line)?)
    }
}
