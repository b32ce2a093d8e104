//! The process in which programs are checked: it takes jobs as lines of JSON and answers each with a line.

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use super::drive::check;
use super::outcome::{Job, Outcome};

/// What the panic of the present job said.
static SAID: Mutex<Option<String>> = Mutex::new(None);

/// Answers jobs until the input ends.
///
/// # Errors
/// The pipes to the other process.
pub fn serve() -> std::io::Result<()> {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, ToString::to_string);
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        if let Ok(mut said) = SAID.lock() {
            said.get_or_insert_with(|| format!("{place}\n{text}"));
        }
    }));
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    for line in input.lines() {
        let job: Job = serde_json::from_str(&line?)?;
        let outcome = guarded(&job);
        serde_json::to_writer(&mut output, &outcome)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}

fn guarded(job: &Job) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| check(job))).unwrap_or_else(|_| {
        let said = SAID.lock().ok().and_then(|mut said| said.take());
        Outcome::Panicked { text: said.unwrap_or_default() }
    })
}
