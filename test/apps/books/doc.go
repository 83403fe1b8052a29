// Package books is the bookstore that users of Open Service Mesh know from its demo:
// buyers that call a store, a thief that calls it too, the store's warehouse and the
// database of the warehouse.
//
// Settings come in as values; HTTP handlers, a TCP handler and loops come out, each of
// which counts what it sees in a Tally. The package reads neither flags nor environment
// and opens no listener.
package books
