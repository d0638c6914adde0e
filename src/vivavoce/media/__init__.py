"""Pictures, film and sound: in through :mod:`~vivavoce.media.read`, out through :mod:`~vivavoce.media.write`."""
