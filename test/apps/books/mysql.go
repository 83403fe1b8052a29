package books

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
)

// Database stands for MySQL: a TCP server that speaks first, as MySQL does, and then
// answers commands, one for each line:
//
//	INSERT table n   adds n rows and answers OK and the number of rows
//	COUNT table      answers OK and the number of rows
//	PING             answers OK 0
//	QUIT             ends the connection
type Database struct {
	tally *Tally

	mu     sync.Mutex
	tables map[string]int64 // protected by mu
}

// NewDatabase returns an empty database.
func NewDatabase(tally *Tally) *Database {
	return &Database{tally: tally, tables: map[string]int64{}}
}

// Greeting is the start of what the database says to every connection; its identity
// follows.
const Greeting = "8.0.0-bookstore-demo "

// Handle serves one connection until it ends.
func (d *Database) Handle(conn net.Conn) {
	d.tally.update(func(c *Counters) { c.Served["CONNECT"]++ })
	if _, err := fmt.Fprintln(conn, Greeting+d.tally.Counters().Identity); err != nil {
		return
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 1 && fields[0] == "QUIT" {
			return
		}
		answer, command := d.answer(fields)
		d.tally.update(func(c *Counters) { c.Served[command]++ })
		if _, err := fmt.Fprintln(conn, answer); err != nil {
			return
		}
	}
}

// answer carries out one command and returns what to say, and what the command was.
func (d *Database) answer(fields []string) (answer, command string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case len(fields) == 1 && fields[0] == "PING":
		return "OK 0", "PING"
	case len(fields) == 2 && fields[0] == "COUNT":
		return "OK " + strconv.FormatInt(d.tables[fields[1]], 10), "COUNT"
	case len(fields) == 3 && fields[0] == "INSERT":
		n, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil || n < 0 {
			return "ERROR how many rows is " + strconv.Quote(fields[2]) + "?", "ERROR"
		}
		d.tables[fields[1]] += n
		return "OK " + strconv.FormatInt(d.tables[fields[1]], 10), "INSERT"
	default:
		return "ERROR unknown command", "ERROR"
	}
}
