// The Go engine github.com/intrepidkarthi/orderbook, as the PyPI package obook ships it: compiled to a shared library
// with a C interface. A call from C into Go has a price of its own, which is measured and printed beside the result.
// Events are fetched after every order that traded, and else every 64 messages. Buys and sells have two users, so that its self-trade rule never applies.

#include "../flow.hpp"

extern "C" {
struct Event {
    int32_t kind, reason, aggressor, nothing;
    int64_t order_id, user, price, quantity, maker_id, taker_id;
};
int32_t ob_abi_version();
int64_t ob_new(int64_t orders_max);
void ob_free(int64_t book);
int32_t ob_submit(int64_t book, int64_t user, int32_t side, int32_t type, int64_t price, int64_t quantity,
                  int32_t force, int32_t post_only, int64_t* order_id, int32_t* status, int32_t* reason);
int32_t ob_cancel(int64_t book, int64_t order_id, int64_t user, int32_t* status, int32_t* reason);
struct Order {
    int64_t order_id, user, price, quantity, filled;
    int32_t side, nothing;
};
int32_t ob_book(int64_t book, Order* orders, int32_t len);
int32_t ob_events(int64_t book, Event* events, int32_t len);
}

namespace {

constexpr int EVENTS_EVERY = 64;
constexpr int32_t TRADE = 3, PARTIALLY_FILLED = 2, FILLED = 3;

class Engine {
public:
    explicit Engine(const flow::Flow& flow)
        : books_(flow.markets), waiting_(flow.markets), ids_(flow.orders + 1), events_(1024) {
        const int64_t orders_max = flow.markets > 1 ? 20'000 : static_cast<int64_t>(flow.total.open) * 2 + 200'000;
        for (auto& book : books_) book = ob_new(orders_max);
    }
    Engine(const Engine&) = delete;
    ~Engine() {
        for (const int64_t book : books_) ob_free(book);
    }

    void apply(const flow::Message& message) {
        int32_t status = 0, reason = 0;
        const int64_t book = books_[message.market], user = 1 + message.sells;
        if (message.kind == 0) {
            ob_submit(book, user, message.sells, 0, message.price, message.quantity, message.force, 0,
                      &ids_[message.id], &status, &reason);
        } else {
            ob_cancel(book, ids_[message.id], user, &status, &reason);
        }
        if (reason != 0) total_.rejected += 1;
        // Trades that wait while others are made are told with the quantities of later ones: fetched at once, they agree.
        const bool traded = message.kind == 0 && (message.force == 1 || status == PARTIALLY_FILLED || status == FILLED);
        if (++waiting_[message.market] == EVENTS_EVERY || traded) fetch(message.market);
    }

    void flush() {
        for (size_t market = 0; market < waiting_.size(); ++market) {
            if (waiting_[market] > 0) fetch(market);
        }
    }

    flow::Total total() const {
        flow::Total total = total_;
        std::vector<Order> orders(1024);
        for (const int64_t book : books_) {
            int32_t len = -1;
            while ((len = ob_book(book, orders.data(), static_cast<int32_t>(orders.size()))) < 0) {
                orders.resize(orders.size() * 2);
            }
            total.open += static_cast<uint64_t>(len);
        }
        return total;
    }

private:
    void fetch(size_t market) {
        waiting_[market] = 0;
        int32_t len = 0;
        do {
            len = ob_events(books_[market], events_.data(), static_cast<int32_t>(events_.size()));
            for (int32_t at = 0; at < len; ++at) {
                const Event& event = events_[static_cast<size_t>(at)];
                if (event.kind == TRADE) {
                    total_.trades += 1;
                    total_.quantity += static_cast<uint64_t>(event.quantity);
                    total_.notional += static_cast<uint64_t>(event.price) * static_cast<uint64_t>(event.quantity);
                }
            }
        } while (len == static_cast<int32_t>(events_.size()));
    }

    flow::Total total_{};
    std::vector<int64_t> books_;
    std::vector<int> waiting_;
    std::vector<int64_t> ids_;
    std::vector<Event> events_;
};

}  // namespace

int main(int argc, char** argv) {
    const auto began = std::chrono::steady_clock::now();
    for (int call = 0; call < 1'000'000; ++call) ob_abi_version();
    const auto ns = std::chrono::nanoseconds(std::chrono::steady_clock::now() - began).count();
    std::fprintf(stderr, "call_ns %lld\n", static_cast<long long>(ns / 1'000'000));
    return flow::main<Engine>("obook", argc, argv);
}
