// Command lab-soap is the HTTPS side of the lab host: an ESXi that answers SOAP on /sdk and datastore
// files on /folder. It holds no state of its own but sessions, tasks of its own and views; the rest is
// asked of the lab's daemon over its unix socket before every request.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func run() error {
	socket := flag.String("hostd", "", "unix socket of the lab's daemon (required)")
	listen := flag.String("listen", "127.0.0.1:0", "address and port to listen on")
	directory := flag.String("directory", "", "where certificate.pem and key.pem are kept; made when absent (required)")
	idle := flag.Duration("session-idle", 30*time.Minute, "idle time after which a session dies")
	verbose := flag.Bool("verbose", false, "log requests to standard error")
	flag.Parse()
	if *socket == "" || *directory == "" {
		return errors.New("-hostd and -directory are required")
	}

	logger := log.New(os.Stderr, "lab-soap: ", log.LstdFlags)
	log.SetOutput(io.Discard) // the simulator tells of every unknown object and filter
	if err := os.MkdirAll(*directory, 0o700); err != nil {
		return err
	}
	first, err := loadOrMakeCertificate(filepath.Join(*directory, "certificate.pem"), filepath.Join(*directory, "key.pem"))
	if err != nil {
		return err
	}
	second, err := loadOrMakeCertificate(filepath.Join(*directory, "changed-certificate.pem"), filepath.Join(*directory, "changed-key.pem"))
	if err != nil {
		return err
	}

	h, err := newHost(newDaemon(*socket), options{sessionIdle: *idle, logger: logger, verbose: *verbose})
	if err != nil {
		return err
	}
	door, err := openDoor(*listen, h, first, second)
	if err != nil {
		return err
	}
	fmt.Printf("listening %d %s\n", door.port(), certificateSha256(first))

	stop := make(chan struct{})
	go func() { // whoever started this program holds its standard input open
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go door.follow(h)
	select {
	case <-stop:
	case <-signals:
	}
	door.close()
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "lab-soap: %s\n", err)
		os.Exit(1)
	}
}
