"""One replica: the host that takes requests from a pool's topic, and the model worker that scores them."""
