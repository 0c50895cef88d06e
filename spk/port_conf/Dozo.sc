[dozo_tls]
title="Dozo"
desc="Dozo: API and command line (TLS)"
port_forward="no"
dst.ports="5510/tcp"
