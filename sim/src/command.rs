//! What the command line tools of this crate share that run real processes: they say what they do, and end when told to.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

/// Carries a run out, unless the process is interrupted or terminated meanwhile. The run is dropped then, which ends its processes
/// and takes back what it did to the machine; the process itself does not end by these signals any more.
///
/// # Errors
///
/// What the run says; or that it was interrupted or terminated.
pub async fn uninterrupted(run: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<String> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        biased;
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
        told = Box::pin(run) => told,
    }
}

/// Says something to whoever runs the tool.
#[expect(clippy::print_stdout, reason = "a command line tool")]
pub fn tell(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::process::Command;
    use std::sync::Arc;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_run_that_is_terminated_is_dropped() {
        assert_eq!(uninterrupted(ready(Ok("done".to_owned()))).await.unwrap(), "done");
        let resource = Arc::new(());
        let held = resource.clone();
        let mut run = Box::pin(uninterrupted(async move {
            let _held = held;
            pending().await
        }));
        assert!(run.as_mut().now_or_never().is_none(), "from here on it listens");
        Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status().unwrap();
        assert_eq!(run.await.unwrap_err().to_string(), "terminated");
        assert_eq!(Arc::strong_count(&resource), 1);
    }
}
