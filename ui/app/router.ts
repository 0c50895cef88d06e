import { createRouter, createWebHashHistory } from 'vue-router';
import { hosts, isLoaded, overview } from '../api/catalogue.ts';
import { resumeSession } from '../api/session.ts';
import { readPreferences } from '../composables/preferences.ts';

/** Addresses lie behind the hash: the server need not know them, whatever path a NAS puts before. */
export const router = createRouter({
  history: createWebHashHistory(),
  routes: [
    { path: '/login', name: 'login', component: () => import('../pages/LoginPage.vue') },
    {
      path: '/',
      component: () => import('./AppFrame.vue'),
      children: [
        { path: '', name: 'overview', component: () => import('../pages/OverviewPage.vue') },
        { path: 'welcome', name: 'welcome', component: () => import('../pages/WelcomePage.vue') },
        { path: 'machines', name: 'machines', component: () => import('../pages/MachinesPage.vue') },
        { path: 'tasks', name: 'tasks', component: () => import('../pages/TasksPage.vue') },
        { path: 'tasks/new', name: 'task-new', component: () => import('../pages/TaskPage.vue') },
        { path: 'tasks/:id', name: 'task-edit', component: () => import('../pages/TaskPage.vue'), props: true },
        { path: 'restore', name: 'restore', component: () => import('../pages/RestorePage.vue') },
        { path: 'activities', name: 'activities', component: () => import('../pages/ActivitiesPage.vue') },
        { path: 'activities/:id', name: 'run', component: () => import('../pages/RunPage.vue'), props: true },
        { path: 'storage', name: 'storage', component: () => import('../pages/StoragePage.vue') },
        { path: 'storage/:id', name: 'versions', component: () => import('../pages/VersionsPage.vue'), props: true },
        {
          path: 'versions/:id/files',
          name: 'guest-files',
          component: () => import('../pages/GuestFilesPage.vue'),
          props: true,
        },
        { path: 'settings', name: 'settings', component: () => import('../pages/SettingsPage.vue') },
        { path: ':rest(.*)*', redirect: { name: 'overview' } },
      ],
    },
  ],
});

router.beforeEach(async (to) => {
  if (to.name === 'login') return true;
  const isIn = await resumeSession().catch(() => false);
  if (!isIn) return { name: 'login', query: { to: to.fullPath } };
  const isNew = isLoaded.value && hosts.value.length === 0 && overview.value?.jobs === 0;
  if (to.name === 'overview' && isNew && !readPreferences().guideDone) return { name: 'welcome' };
  return true;
});
