package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/openservicemesh/osm-operator/test/apps/books"
	"github.com/openservicemesh/osm-operator/test/apps/process"
)

// withAdmin adds the admin port to the listeners of an application.
func (a *app) withAdmin(handler http.Handler, listeners ...process.Listener) []process.Listener {
	if a.admin == "" {
		return listeners
	}
	return append(listeners, process.HTTP(a.admin, handler))
}

// number reads a number from the environment.
func (a *app) number(name string, fallback int) (int, error) {
	v := a.getenv(name)
	if v == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s=%q is not a number", name, v)
	}
	return n, nil
}

// runBuyer returns the buyer that expects this status unless it is told otherwise. The
// names of the variables are those of the original demo.
func runBuyer(expected int) func(context.Context, *app, []string) error {
	return func(ctx context.Context, a *app, args []string) error {
		options := books.BuyerOptions{App: a.name}
		variable := strings.ToUpper(a.name) + "_EXPECTED_RESPONSE_CODE"
		expect, err := a.number(variable, expected)
		if err != nil {
			return err
		}
		seconds, err := a.number("CI_SLEEP_BETWEEN_REQUESTS_SECONDS", 1)
		if err != nil {
			return err
		}
		if options.SuccessAfter, err = a.number("CI_MIN_SUCCESS_THRESHOLD", 1); err != nil {
			return err
		}
		if options.FailAfter, err = a.number("CI_MAX_ITERATIONS_THRESHOLD", 0); err != nil {
			return err
		}
		store := "http://" + a.env("BOOKSTORE_SVC", "bookstore") + "." + a.env("BOOKSTORE_NAMESPACE", "bookstore") + ":14001"
		a.serverFlags(":14001")
		a.flags.StringVar(&options.Store, "store", store, "`URL` of the bookstore (BOOKSTORE_SVC, BOOKSTORE_NAMESPACE)")
		a.flags.IntVar(&options.Expected, "expect", expect, "`status` that every request should have; 0 for no answer ("+variable+")")
		a.flags.DurationVar(&options.Interval, "interval", time.Duration(seconds)*time.Second, "`time` between two rounds (CI_SLEEP_BETWEEN_REQUESTS_SECONDS)")
		if err := a.parse(args); err != nil {
			return err
		}
		if options.Interval <= 0 {
			return fmt.Errorf("the interval %s is not over 0", options.Interval)
		}
		tally := books.NewTally(a.name, a.identity)
		buyer := books.NewBuyer(options, tally, a.log, a.out)
		return a.serve(ctx, a.withAdmin(tally.AdminHandler(), process.HTTP(a.addr, buyer.Handler())), buyer.Run)
	}
}

// runStore runs the bookstore.
func runStore(ctx context.Context, a *app, args []string) error {
	a.serverFlags(":14001")
	warehouse := "http://bookwarehouse." + a.env("BOOKWAREHOUSE_NAMESPACE", "bookwarehouse") + ":14001/"
	url := a.flags.String("warehouse", warehouse, "`URL` of the warehouse (BOOKWAREHOUSE_NAMESPACE)")
	if err := a.parse(args); err != nil {
		return err
	}
	tally := books.NewTally(a.name, a.identity)
	store := books.NewStore(tally, a.log, *url)
	return a.serve(ctx, a.withAdmin(tally.AdminHandler(), process.HTTP(a.addr, store.Handler())), store.Run)
}

// runWarehouse runs the warehouse.
func runWarehouse(ctx context.Context, a *app, args []string) error {
	a.serverFlags(":14001")
	db := a.flags.String("db", "mysql."+a.env("BOOKWAREHOUSE_NAMESPACE", "bookwarehouse")+":3306", "`address` of the database (BOOKWAREHOUSE_NAMESPACE)")
	if err := a.parse(args); err != nil {
		return err
	}
	tally := books.NewTally(a.name, a.identity)
	warehouse := books.NewWarehouse(tally, a.log, a.out, *db)
	defer warehouse.Close()
	return a.serve(ctx, a.withAdmin(tally.AdminHandler(), process.HTTP(a.addr, warehouse.Handler())))
}

// runDatabase runs what stands for MySQL.
func runDatabase(ctx context.Context, a *app, args []string) error {
	a.serverFlags(":3306")
	if err := a.parse(args); err != nil {
		return err
	}
	tally := books.NewTally(a.name, a.identity)
	db := books.NewDatabase(tally)
	return a.serve(ctx, a.withAdmin(tally.AdminHandler(), process.TCP(a.addr, db.Handle)))
}
