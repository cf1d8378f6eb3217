import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `npm run dev` serves the page with hot reload and passes API calls on to a running `weir serve`.
const weir = process.env.WEIR_URL ?? "http://127.0.0.1:9090";

export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2022",
    // The map's layout engine is one big worker file, loaded only when a map is drawn.
    chunkSizeWarningLimit: 700,
  },
  server: {
    proxy: {
      "/api": { target: weir, changeOrigin: true },
      "/loki": { target: weir, changeOrigin: true, ws: true },
    },
  },
});
