package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// door is the port: it can be shut (connections refused), stalled, or show another certificate.
type door struct {
	handler       http.Handler
	first, second tls.Certificate

	mu      sync.Mutex
	moved   *sync.Cond // a stall has ended
	address string
	server  *http.Server
	closed  bool
	stalled bool
	changed bool
}

func openDoor(address string, handler http.Handler, first, second tls.Certificate) (*door, error) {
	d := &door{handler: handler, first: first, second: second, address: address}
	d.moved = sync.NewCond(&d.mu)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.open(); err != nil {
		return nil, err
	}
	return d, nil
}

// open listens and serves. The caller holds the lock.
func (d *door) open() error {
	listener, err := net.Listen("tcp", d.address)
	if err != nil {
		return err
	}
	d.address = listener.Addr().String() // the same port after a pause
	server := &http.Server{
		Handler:           d.handler,
		ErrorLog:          log.New(io.Discard, "", 0), // clients that hang up are not news
		ReadHeaderTimeout: 30 * time.Second,
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return d.certificate(), nil },
		},
		// A host speaks HTTP/1.1 alone; an empty map keeps Go from offering HTTP/2.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	d.server = server
	go func() { _ = server.ServeTLS(&doorListener{listener, d}, "", "") }()
	return nil
}

func (d *door) port() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	address, err := net.ResolveTCPAddr("tcp", d.address)
	if err != nil {
		return 0
	}
	return address.Port
}

func (d *door) certificate() *tls.Certificate {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed {
		return &d.second
	}
	return &d.first
}

// set obeys the switches. A port taken by another program meanwhile is tried for again at the next call.
func (d *door) set(switches labSwitches) error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.changed = switches.HTTPSCertificateChanged
	d.stalled = switches.HTTPS == "stall"
	d.moved.Broadcast()
	var ended *http.Server
	var err error
	switch {
	case switches.HTTPS == "off" && d.server != nil:
		ended, d.server = d.server, nil
	case switches.HTTPS != "off" && d.server == nil:
		err = d.open()
	}
	d.mu.Unlock()
	if ended != nil {
		return ended.Close() // says goodbye on every connection, which needs the lock
	}
	return err
}

func (d *door) close() {
	d.mu.Lock()
	d.closed, d.stalled = true, false
	d.moved.Broadcast()
	server := d.server
	d.mu.Unlock()
	if server != nil {
		_ = server.Close()
	}
}

// follow obeys the daemon's switches until the door is closed.
func (d *door) follow(h *host) {
	generation := int64(-1)
	for {
		d.mu.Lock()
		closed := d.closed
		d.mu.Unlock()
		if closed {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		state, err := h.daemon.stateAfter(ctx, generation, 20_000)
		cancel()
		if err == nil {
			generation = state.Generation
			h.apply(state)
			err = d.set(state.Switches)
			time.Sleep(50 * time.Millisecond) // a task that reports its progress changes the state all the time
		}
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				h.logger.Printf("following the switches: %s", err)
			}
			time.Sleep(500 * time.Millisecond)
		}
	}
}

// pass returns once the door is not stalled.
func (d *door) pass() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.stalled {
		d.moved.Wait()
	}
}

type doorListener struct {
	net.Listener
	door *door
}

func (l *doorListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &doorConn{conn, l.door}, nil
}

// doorConn freezes while the door is stalled; the peer sees an open connection on which nothing comes.
type doorConn struct {
	net.Conn
	door *door
}

func (c *doorConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.door.pass()
	return n, err
}

func (c *doorConn) Write(b []byte) (int, error) {
	c.door.pass()
	return c.Conn.Write(b)
}
