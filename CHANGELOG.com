### Fixed

- On TimescaleDB's Community edition `tidemill retention status` and the metrics of bytes in the database counted a compressed chunk without its compressed rows.
- `tidemill status` on the Apache edition names the features that were made before a move from the Community edition: they do no work there.
