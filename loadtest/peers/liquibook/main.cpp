// The C++ engine that the PyPI package liquibook ships as headers: one OrderBook per market, used from C++ so that no
// time is spent in Python. Orders are the caller's objects; they are made before the clock starts.

#include "../flow.hpp"

#include <book/order.h>
#include <book/order_book.h>

#include <memory>

namespace {

class Order final : public liquibook::book::Order {
public:
    explicit Order(const flow::Message& message)
        : price_(static_cast<uint64_t>(message.price)), quantity_(message.quantity), buys_(!message.sells) {}
    bool is_buy() const override { return buys_; }
    liquibook::book::Price price() const override { return price_; }
    liquibook::book::Quantity order_qty() const override { return quantity_; }

private:
    uint64_t price_;
    uint32_t quantity_;
    bool buys_;
};

class Book final : public liquibook::book::OrderBook<const Order*> {
public:
    flow::Total* total = nullptr;

protected:
    void on_trade(const OrderBook*, liquibook::book::Quantity quantity, liquibook::book::Price price) override {
        total->trades += 1;
        total->quantity += quantity;
        total->notional += price * quantity;
    }
    void on_reject(const Order* const&, const char*) override { total->rejected += 1; }
    void on_cancel_reject(const Order* const&, const char*) override { total->rejected += 1; }
};

class Engine {
public:
    explicit Engine(const flow::Flow& flow) : books_(flow.markets) {
        for (auto& book : books_) {
            book = std::make_unique<Book>();
            book->total = &total_;
        }
        orders_.reserve(flow.orders + 1);
        orders_.emplace_back(flow.messages.front());
        for (const auto& message : flow.messages) {
            if (message.kind == 0) orders_.emplace_back(message);
        }
    }

    void apply(const flow::Message& message) {
        Book& book = *books_[message.market];
        const Order* const order = &orders_[message.id];
        if (message.kind == 0) {
            book.add(order, message.force == 1 ? liquibook::book::oc_immediate_or_cancel
                                               : liquibook::book::oc_no_conditions);
        } else {
            book.cancel(order);
        }
    }

    void flush() {}

    flow::Total total() const {
        flow::Total total = total_;
        for (const auto& book : books_) total.open += book->bids().size() + book->asks().size();
        return total;
    }

private:
    flow::Total total_{};
    std::vector<std::unique_ptr<Book>> books_;
    std::vector<Order> orders_;
};

}  // namespace

int main(int argc, char** argv) { return flow::main<Engine>("liquibook", argc, argv); }
