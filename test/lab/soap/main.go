// Command lab-soap is the HTTPS side of the lab host: an ESXi that answers SOAP on /sdk and datastore
// files on /folder. It holds no state of its own but sessions, tasks and views; the rest is asked of the
// lab's daemon over its unix socket before every request.
package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// ready is the one line printed on standard output once connections are accepted.
type ready struct {
	Port              int    `json:"port"`
	CertificateSha256 string `json:"certificateSha256"`
}

func run() error {
	socket := flag.String("socket", "", "unix socket of the lab's daemon (required)")
	listen := flag.String("listen", "127.0.0.1:0", "address and port to listen on")
	certPath := flag.String("cert", "", "PEM certificate; made when absent")
	keyPath := flag.String("key", "", "PEM private key; made when absent")
	idle := flag.Duration("session-idle", 30*time.Minute, "idle time after which a session dies")
	pace := flag.Float64("pace", 1, "factor on the delays of tasks; 0 makes them finish at once")
	verbose := flag.Bool("verbose", false, "log requests to standard error")
	flag.Parse()

	log.SetPrefix("lab-soap: ")
	if *socket == "" {
		return errors.New("-socket is required")
	}
	// The simulator logs every unknown object and filter through the standard logger.
	logger := log.New(os.Stderr, "lab-soap: ", log.LstdFlags)
	if !*verbose {
		log.SetOutput(io.Discard)
	}

	certificate, err := loadOrMakeCertificate(*certPath, *keyPath)
	if err != nil {
		return err
	}
	h, err := newHost(newDaemon(*socket), options{sessionIdle: *idle, pace: *pace, logger: logger, verbose: *verbose})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}

	server := newServer(h, certificate, logger)
	line, err := json.Marshal(ready{
		Port:              listener.Addr().(*net.TCPAddr).Port,
		CertificateSha256: certificateSha256(certificate),
	})
	if err != nil {
		return err
	}
	fmt.Println(string(line))

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-stop
		server.Close()
	}()
	if err := server.ServeTLS(listener, "", ""); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func newServer(handler http.Handler, certificate tls.Certificate, logger *log.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ErrorLog:          log.New(io.Discard, "", 0), // clients that hang up are not news
		ReadHeaderTimeout: 30 * time.Second,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		// A host speaks HTTP/1.1 alone; an empty map keeps Go from offering HTTP/2.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "lab-soap: %s\n", err)
		os.Exit(1)
	}
}
