//! Waiting for a source's next word.

use tokio::sync::watch;

/// Resolves when there is something new. A source that ended says nothing more; the channel alone would say so at once,
/// and whoever asks it in a loop would go round for ever: without a policy file there is no source of policies.
pub async fn changed<T>(source: &mut watch::Receiver<T>) {
    if source.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_word_counts_and_the_end_is_silent() {
        let (say, mut source) = watch::channel(0);
        say.send_replace(1);
        drop(say);
        changed(&mut source).await;
        assert_eq!(*source.borrow(), 1);
        assert!(tokio::time::timeout(Duration::from_hours(1), changed(&mut source)).await.is_err());
    }
}
