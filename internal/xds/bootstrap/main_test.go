package bootstrap_test

import (
	"flag"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the golden files anew")
	flag.Parse()
	os.Exit(m.Run())
}

// updating says whether golden files are to be written.
func updating() bool { return flag.Lookup("update").Value.String() == "true" }
