"""The live edge of the same generator: push sound in, iterate clips out, close to interrupt."""

from __future__ import annotations

from vivavoce.streams import Background, Channel
from vivavoce.system import Clip, Portrait, Source, System
from vivavoce.timeline import Pcm


class Session(Background[Clip]):
    """One talking face fed by pushes. Works at most ``ahead`` clips before its reader."""

    def __init__(
        self, system: System, source: Source | Portrait, *, seed: int = 0, ahead: int = 2, inbox: int = 64
    ) -> None:
        self._inbox: Channel[Pcm] = Channel(inbox)
        super().__init__(system.stream(source, self._inbox, seed=seed), ahead)

    def push(self, pcm: Pcm) -> None:
        """Give sound (mono, the system's sample rate). Blocks while the system is too far behind.

        Raises :class:`vivavoce.streams.Closed` once the session is over.
        """
        self._inbox.put(pcm)

    def finish(self) -> None:
        """No more sound; the remaining frames still come out."""
        self._inbox.close()

    def close(self) -> None:
        """Interrupt: stop at the next clip and wait for the thread to end."""
        self._inbox.close()
        super().close()
