import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Collectors;

/** What harness.py says, for Java: PROTOCOL PORT NAME FEATURES. */
final class Load {
    private static final long PACE_MS = 100;
    private static final long BEAT_MS = 100;
    private static final long GRACE_S = 20;

    /** A reply that no direct connection would have given. */
    static final class Wrong extends RuntimeException {
        Wrong(String message) {
            super(message.substring(0, Math.min(300, message.length())));
        }
    }

    interface Work {
        void run() throws Exception;
    }

    interface Round {
        void run(int n) throws Exception;
    }

    final int protocol;
    final int port;
    final String name;
    private final Map<String, Integer> done = new LinkedHashMap<>();
    private final List<String> errors = new ArrayList<>();
    private final List<String> wrong = new ArrayList<>();
    private final CountDownLatch beginning = new CountDownLatch(1);
    private final CountDownLatch stopping = new CountDownLatch(1);
    private final ExecutorService threads = Executors.newCachedThreadPool(work -> {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        return thread;
    });

    Load(String[] arguments) {
        protocol = Integer.parseInt(arguments[0]);
        port = Integer.parseInt(arguments[1]);
        name = arguments[2];
        for (String feature : arguments[3].split(",")) done.put(feature, 0);
        threads.submit(() -> {
            boolean isOpen = System.in.read() >= 0;
            beginning.countDown();
            while (isOpen) isOpen = System.in.read() >= 0;
            stopping.countDown();
            return null;
        });
    }

    static void same(Object got, Object wanted, String what) {
        if (!Objects.equals(got, wanted)) {
            throw new Wrong(what + ": " + got + " instead of " + wanted);
        }
    }

    String key(Object... parts) {
        StringBuilder key = new StringBuilder(name);
        for (Object part : parts) key.append(':').append(part);
        return key.toString();
    }

    boolean isStopped() {
        return stopping.getCount() == 0;
    }

    synchronized void count(String feature) {
        done.merge(feature, 1, Integer::sum);
    }

    /** round(1), round(2) … at a steady pace until the end, each counted; how many there were. */
    int rounds(String feature, Round round) throws Exception {
        int n = 0;
        while (!isStopped()) {
            round.run(++n);
            count(feature);
            stopping.await(PACE_MS, TimeUnit.MILLISECONDS);
        }
        return n;
    }

    /** Each in a thread of its own; throws what one of them threw. */
    void together(Work... workers) throws Exception {
        List<Future<?>> running = new ArrayList<>();
        for (Work worker : workers) {
            running.add(threads.submit(() -> {
                worker.run();
                return null;
            }));
        }
        while (!running.isEmpty()) {
            for (Future<?> each : List.copyOf(running)) {
                try {
                    each.get(BEAT_MS, TimeUnit.MILLISECONDS);
                    running.remove(each);
                } catch (TimeoutException stillRunning) {
                }
            }
        }
    }

    private synchronized void failed(String feature, Throwable failure) {
        while (failure instanceof java.util.concurrent.ExecutionException) {
            failure = failure.getCause();
        }
        (failure instanceof Wrong ? wrong : errors).add(feature + ": " + failure);
    }

    private synchronized void say() {
        String counts = done.entrySet().stream()
            .map(each -> quoted(each.getKey()) + ": " + each.getValue())
            .collect(Collectors.joining(", "));
        System.out.printf("{\"done\": {%s}, \"errors\": %s, \"wrong\": %s}%n", counts,
            listed(errors), listed(wrong));
        System.out.flush();
    }

    private static String listed(List<String> texts) {
        return texts.stream().limit(10).map(Load::quoted).collect(Collectors.toList()).toString();
    }

    private static String quoted(String text) {
        String plain = text.replaceAll("[^\\x20-\\x7e]", "?");
        return '"' + plain.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    /** All features at work until the end, and then the time to finish. */
    void run(Map<String, Work> features) throws Exception {
        say();
        beginning.await();
        Map<String, Future<?>> running = new LinkedHashMap<>();
        for (String feature : List.copyOf(done.keySet())) {
            running.put(feature, threads.submit(() -> {
                try {
                    features.get(feature).run();
                } catch (Throwable failure) {
                    failed(feature, failure);
                }
            }));
        }
        while (!stopping.await(BEAT_MS, TimeUnit.MILLISECONDS)) say();
        for (Map.Entry<String, Future<?>> each : running.entrySet()) {
            try {
                each.getValue().get(GRACE_S, TimeUnit.SECONDS);
            } catch (TimeoutException late) {
                failed(each.getKey(), new Exception("did not end"));
            }
        }
        say();
        System.exit(0);
    }
}
