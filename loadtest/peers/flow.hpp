// Reads a flow file (see loadtest/flow/src/file.rs) and times an engine on it, for adapters in C++.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace flow {

struct Message {
    uint64_t id;
    int64_t price;
    uint32_t quantity;
    uint32_t market;
    uint8_t kind;   // 0 place, 1 cancel; shared flows have no others
    uint8_t sells;
    uint8_t force;  // 0 good till cancelled, 1 immediate or cancel
    uint8_t nothing[5];
};
static_assert(sizeof(Message) == 32);

struct Total {
    uint64_t trades, quantity, notional, rejected, open;
};

struct Flow {
    uint32_t markets = 0;
    uint64_t orders = 0;
    Total total{};
    std::vector<uint64_t> segments;
    std::vector<Message> messages;

    explicit Flow(const char* path) {
        std::ifstream file(path, std::ios::binary);
        char magic[8];
        uint32_t segment_count = 0;
        uint64_t message_count = 0;
        file.read(magic, 8);
        if (!file || std::memcmp(magic, "CLOBFLW1", 8) != 0) {
            std::fprintf(stderr, "%s: no flow file\n", path);
            std::exit(1);
        }
        const auto read = [&](void* to, size_t len) { file.read(static_cast<char*>(to), static_cast<long>(len)); };
        read(&markets, 4);
        read(&segment_count, 4);
        read(&message_count, 8);
        read(&orders, 8);
        read(&total, sizeof total);
        segments.resize(segment_count);
        messages.resize(message_count);
        read(segments.data(), segment_count * 8);
        read(messages.data(), message_count * sizeof(Message));
        if (!file) {
            std::fprintf(stderr, "%s: cut off\n", path);
            std::exit(1);
        }
    }
};

constexpr uint64_t TIMED = uint64_t{1} << 63;

// Engine: made from a Flow; apply(Message), flush() at the end of a segment while the clock runs, total().
template <class Engine>
int main(const char* name, int argc, char** argv) {
    if (argc != 4) {
        std::fprintf(stderr, "usage: %s FLOW-FILE RUNS SECONDS\n", argv[0]);
        return 2;
    }
    using Clock = std::chrono::steady_clock;
    const auto cpu_time = [] {
        timespec time{};
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
        return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
    };
    const Flow flow(argv[1]);
    const int runs = std::atoi(argv[2]);
    const auto seconds = std::chrono::seconds(std::atoi(argv[3]));
    uint64_t messages = 0;
    for (const uint64_t segment : flow.segments) messages += segment & TIMED ? segment & ~TIMED : 0;
    Total first{};
    std::string times;
    const auto started = Clock::now();
    for (int run = 0; run <= runs; ++run) {
        Engine engine(flow);
        auto timed = std::chrono::nanoseconds::zero();
        const Message* next = flow.messages.data();
        for (const uint64_t segment : flow.segments) {
            const Message* const end = next + (segment & ~TIMED);
            const auto began = cpu_time();
            while (next != end) engine.apply(*next++);
            engine.flush();
            if (segment & TIMED) timed += cpu_time() - began;
        }
        const Total total = engine.total();
        if (run == 0) {
            first = total;
            continue;
        }
        if (std::memcmp(&first, &total, sizeof total) != 0) {
            std::fprintf(stderr, "run %d came to another total\n", run);
            return 1;
        }
        times += (times.empty() ? "" : ",") + std::to_string(timed.count());
        if (Clock::now() - started >= seconds) break;
    }
    const std::string path = argv[1];
    const size_t begin = path.find_last_of('/') + 1;
    const bool agrees = first.trades == flow.total.trades && first.quantity == flow.total.quantity &&
                        first.notional == flow.total.notional && first.open == flow.total.open;
    std::printf(
        "{\"engine\":\"%s\",\"flow\":\"%s\",\"messages\":%llu,\"runs_ns\":[%s],\"trades\":%llu,\"quantity\":%llu,"
        "\"notional\":%llu,\"rejected\":%llu,\"open\":%llu,\"agrees\":%s}\n",
        name, path.substr(begin, path.find_last_of('.') - begin).c_str(), static_cast<unsigned long long>(messages),
        times.c_str(), static_cast<unsigned long long>(first.trades), static_cast<unsigned long long>(first.quantity),
        static_cast<unsigned long long>(first.notional), static_cast<unsigned long long>(first.rejected),
        static_cast<unsigned long long>(first.open), agrees ? "true" : "false");
    return 0;
}

}  // namespace flow
