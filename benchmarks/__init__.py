"""Load runs on real sockets: what a delivery and a connection cost, here and in other servers."""
